// What the program ends with; the man page has the same list.
#pragma once

namespace memcachedlock::cli::status {

// After sysexits.h and flock(1), so that schedulers which know those know these.
constexpr int fine = 0;
constexpr int no = 1;            // free, not freed, not had in time; warnings of doctor
constexpr int bad_server = 2;    // errors of doctor
constexpr int usage = 64;        // EX_USAGE
constexpr int unavailable = 69;  // EX_UNAVAILABLE: memcached does not answer
constexpr int system = 71;       // EX_OSERR: no process, no memory
constexpr int output = 74;       // EX_IOERR: standard output takes no more
constexpr int lost = 75;         // EX_TEMPFAIL: the lock was lost while the command ran
constexpr int differ = 76;       // EX_PROTOCOL: clients do not agree about the servers
constexpr int setting = 78;      // EX_CONFIG: memcached answers, but not as a lock needs it
constexpr int not_executable = 126;
constexpr int not_found = 127;

}  // namespace memcachedlock::cli::status
