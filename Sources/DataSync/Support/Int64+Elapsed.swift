extension Int64 {
    /// How long after `earlier` this is, and 0 where it is not. Another server's clock, and an application's, may have said any number.
    package func elapsed(since earlier: Int64) -> Int64 {
        let (difference, overflows) = self.subtractingReportingOverflow(earlier)
        return overflows ? (earlier < 0 ? .max : 0) : Swift.max(0, difference)
    }
}
