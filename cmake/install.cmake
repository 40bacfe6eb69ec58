include(CMakePackageConfigHelpers)

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/memcachedlock)
install(TARGETS memcachedlock EXPORT memcachedlock-targets
  LIBRARY COMPONENT library NAMELINK_COMPONENT development
  ARCHIVE COMPONENT development)
install(DIRECTORY include/memcachedlock DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  COMPONENT development)
install(EXPORT memcachedlock-targets NAMESPACE memcachedlock:: DESTINATION ${config_dir}
  COMPONENT development)

get_target_property(library_type memcachedlock TYPE)
configure_package_config_file(cmake/memcachedlock-config.cmake.in memcachedlock-config.cmake
  INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(memcachedlock-config-version.cmake
  COMPATIBILITY SameMajorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/memcachedlock-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/memcachedlock-config-version.cmake
  DESTINATION ${config_dir} COMPONENT development)

# pkg-config wants them to be there even for who links the shared library, which needs none of them.
set(private_packages "libmemcached fmt libcrypto")
if(library_type STREQUAL "SHARED_LIBRARY")
  set(private_packages "")
endif()
set(atomics "")
if(NOT MEMCACHEDLOCK_HAS_ATOMICS)
  set(atomics " -latomic")
endif()
configure_file(cmake/memcachedlock.pc.in memcachedlock.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/memcachedlock.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
