include(CMakePackageConfigHelpers)

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/memcachedlock)
install(TARGETS memcachedlock EXPORT memcachedlock-targets)
install(DIRECTORY include/memcachedlock DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT memcachedlock-targets NAMESPACE memcachedlock:: DESTINATION ${config_dir})

get_target_property(library_type memcachedlock TYPE)
configure_package_config_file(cmake/memcachedlock-config.cmake.in memcachedlock-config.cmake
  INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(memcachedlock-config-version.cmake
  COMPATIBILITY SameMajorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/memcachedlock-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/memcachedlock-config-version.cmake
  DESTINATION ${config_dir})

configure_file(cmake/memcachedlock.pc.in memcachedlock.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/memcachedlock.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
