// What the library demands of a compiler, and what its shared form exports; all else is hidden.
#pragma once

#if __cplusplus < 202002L
#error "memcachedlock needs C++20: compile with -std=c++20 or later"
#endif

#include <version>

#if !defined(__cpp_exceptions)
#error "memcachedlock reports failures by exceptions: compile without -fno-exceptions"
#endif
#if !defined(__cpp_lib_jthread)
#error "memcachedlock needs <stop_token>: use libstdc++ 11 or later, or libc++ 20 or later"
#endif

#define MEMCACHEDLOCK_EXPORT __attribute__((visibility("default")))
// A member of what is exported that only the library itself calls.
#define MEMCACHEDLOCK_HIDDEN __attribute__((visibility("hidden")))
