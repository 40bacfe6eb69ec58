# .deb packages: configure with -DBUILD_SHARED_LIBS=ON and -DCMAKE_INSTALL_PREFIX=/usr, build, and run
# cpack.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_VENDOR "memcachedlock maintainers")
set(CPACK_PACKAGE_CONTACT "memcachedlock maintainers <maintainers@users.noreply.github.com>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "distributed locks on memcached")
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL library development program)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_CURRENT_BINARY_DIR})
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)

set(package_version "${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}")
set(common "Serialises the writers of one object, in many processes on many
hosts, by a lease in the memcached that they already use.")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libmemcachedlock${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION "${common}
.
This package has the shared library.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libmemcachedlock-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
  "${CPACK_DEBIAN_LIBRARY_PACKAGE_NAME} (= ${package_version})")
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION "${common}
.
This package has the headers, and what CMake and pkg-config need.")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME memcachedlock)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_DEPENDS
  "${CPACK_DEBIAN_LIBRARY_PACKAGE_NAME} (= ${package_version})")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SUGGESTS memcached)
set(CPACK_COMPONENT_PROGRAM_DESCRIPTION "${common}
.
This package has the program that runs commands under such a lock, shows
who holds which, and tells whether a memcached is fit for locks.")

# What policy asks of each package.
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/triggers "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_BINARY_DIR}/triggers)
find_program(GZIP gzip REQUIRED)
execute_process(COMMAND ${GZIP} -9nc ${CMAKE_CURRENT_LIST_DIR}/changelog
  OUTPUT_FILE ${CMAKE_CURRENT_BINARY_DIR}/changelog.Debian.gz)
foreach(component IN ITEMS LIBRARY DEVELOPMENT PROGRAM)
  string(TOLOWER ${component} name)
  set(directory ${CMAKE_INSTALL_DATADIR}/doc/${CPACK_DEBIAN_${component}_PACKAGE_NAME})
  install(FILES LICENSE RENAME copyright DESTINATION ${directory} COMPONENT ${name})
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/changelog.Debian.gz
    DESTINATION ${directory} COMPONENT ${name})
endforeach()

include(CPack)
