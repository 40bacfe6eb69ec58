// The version, in one place: CMakeLists.txt reads these three lines.
#pragma once

#define MEMCACHEDLOCK_VERSION_MAJOR 1
#define MEMCACHEDLOCK_VERSION_MINOR 0
#define MEMCACHEDLOCK_VERSION_PATCH 0
