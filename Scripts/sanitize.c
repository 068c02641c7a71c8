// Tells the thread sanitizer what Swift's Mutex does on Linux where it has to wait.
//
// An uncontended lock is one atomic exchange, which the sanitizer sees. A contended one is taken and given up by the kernel
// (FUTEX_LOCK_PI, FUTEX_UNLOCK_PI) in a library that is not instrumented: the sanitizer does not see that one thread came after the other,
// and reports what both did under the lock. These are the library's functions with that said. Loaded before it (LD_PRELOAD).
//
// The functions: https://github.com/swiftlang/swift/blob/main/stdlib/public/Synchronization/Mutex/LinuxImpl.swift

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>

#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define TRY_LOCK "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *

extern void __tsan_acquire(void *);
extern void __tsan_release(void *);

SWIFT void lock_slow(uint32_t thread, SELF handle) __asm__(LOCK);
SWIFT bool try_lock_slow(SELF handle) __asm__(TRY_LOCK);
SWIFT void unlock_slow(SELF handle) __asm__(UNLOCK);

SWIFT void lock_slow(uint32_t thread, SELF handle) {
    SWIFT void (*library)(uint32_t, SELF) = dlsym(RTLD_NEXT, LOCK);
    library(thread, handle);
    __tsan_acquire(handle);
}

SWIFT bool try_lock_slow(SELF handle) {
    SWIFT bool (*library)(SELF) = dlsym(RTLD_NEXT, TRY_LOCK);
    bool is_locked = library(handle);
    if (is_locked) __tsan_acquire(handle);
    return is_locked;
}

SWIFT void unlock_slow(SELF handle) {
    SWIFT void (*library)(SELF) = dlsym(RTLD_NEXT, UNLOCK);
    __tsan_release(handle);
    library(handle);
}
