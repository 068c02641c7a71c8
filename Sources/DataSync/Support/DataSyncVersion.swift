/// The version of this library and of the two programs.
public enum DataSyncVersion {
    public static let current = "0.1.0"
}
