import DataSync
#if PLANTED_BUGS
    import Synchronization
#endif

/// What ``PlantedBug/unknownKeyFallsBack`` needs; in every other build the key itself, or none.
enum PlantedFallback {
    #if PLANTED_BUGS
        private static let last = Mutex<MachinePublicKey?>(nil)

        static func keyOrFallback(_ key: MachinePublicKey?) -> MachinePublicKey? {
            guard PlantedBug.isOn(.unknownKeyFallsBack) else { return key }
            return self.last.withLock { last in
                last = key ?? last
                return last
            }
        }
    #else
        static func keyOrFallback(_ key: MachinePublicKey?) -> MachinePublicKey? { key }
    #endif
}
