# kvec_jinja: llama.cpp's Jinja engine, compiled from what deploy/local/fetch_jinja.sh has fetched.
set(KVEC_JINJA_DIR ${KVEC_THIRD_PARTY_DIR}/jinja/common)
if(NOT EXISTS ${KVEC_JINJA_DIR}/jinja/runtime.h)
  message(FATAL_ERROR
    "No Jinja engine in ${KVEC_THIRD_PARTY_DIR}. Run this, then configure again:\n  "
    "KVEC_THIRD_PARTY_DIR=${KVEC_THIRD_PARTY_DIR} ${CMAKE_SOURCE_DIR}/deploy/local/fetch_jinja.sh")
endif()

add_library(kvec_jinja STATIC
  ${KVEC_JINJA_DIR}/jinja/lexer.cpp
  ${KVEC_JINJA_DIR}/jinja/parser.cpp
  ${KVEC_JINJA_DIR}/jinja/runtime.cpp
  ${KVEC_JINJA_DIR}/jinja/string.cpp
  ${KVEC_JINJA_DIR}/jinja/value.cpp
  ${KVEC_JINJA_DIR}/json.cpp
  ${KVEC_JINJA_DIR}/unicode.cpp)
target_include_directories(kvec_jinja SYSTEM PUBLIC ${KVEC_JINJA_DIR})
# Its integers are a template's: they wrap.
target_compile_options(kvec_jinja PRIVATE -w -fwrapv)
target_link_libraries(kvec_jinja PRIVATE nlohmann_json::nlohmann_json)
if(KVEC_SANITIZE)
  target_compile_options(kvec_jinja PRIVATE -fsanitize=${KVEC_SANITIZE} -fno-omit-frame-pointer -g)
endif()
