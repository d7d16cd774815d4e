# kvec_library, kvec_binary, kvec_test, kvec_benchmark: a folder is a library is a namespace.

add_library(kvec_options INTERFACE)
target_compile_options(kvec_options INTERFACE
  "$<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wno-unused-parameter;-Werror>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Wno-unused-parameter>")
target_include_directories(kvec_options INTERFACE ${CMAKE_SOURCE_DIR})
if(KVEC_SANITIZE)
  target_compile_options(kvec_options INTERFACE -fsanitize=${KVEC_SANITIZE} -fno-omit-frame-pointer -g)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    # Alike functions of two types become one, of whose type the other's array bounds are then judged.
    target_compile_options(kvec_options INTERFACE -fno-ipa-icf)
  endif()
  target_link_options(kvec_options INTERFACE -fsanitize=${KVEC_SANITIZE})
endif()

# kvec_library(kvec_worker_cache SOURCES … DEPS …); without SOURCES: a header-only library.
function(kvec_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC kvec_options ${ARG_DEPS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE kvec_options ${ARG_DEPS})
  endif()
endfunction()

function(kvec_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE kvec_options ${ARG_DEPS})
  install(TARGETS ${name} RUNTIME)
endfunction()

# kvec_test(gguf_file_test SOURCES … DEPS …): a GoogleTest program; each of its tests is one of CTest's.
function(kvec_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE kvec_options ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE KVEC_SOURCE_DIR="${CMAKE_SOURCE_DIR}" KVEC_BINARY_DIR="${CMAKE_BINARY_DIR}")
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES
    TIMEOUT 600
    ENVIRONMENT "TSAN_OPTIONS=ignore_noninstrumented_modules=1 suppressions=${CMAKE_SOURCE_DIR}/tests/tsan_suppressions.txt")
endfunction()

function(kvec_benchmark name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE kvec_options ${ARG_DEPS} benchmark::benchmark benchmark::benchmark_main)
endfunction()

if(KVEC_BUILD_TESTS)
  include(GoogleTest)
endif()
