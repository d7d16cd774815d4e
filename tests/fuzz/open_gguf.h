#ifndef KVEC_TESTS_FUZZ_OPEN_GGUF_H_
#define KVEC_TESTS_FUZZ_OPEN_GGUF_H_

#include <string>

namespace kvec {

// Opens a GGUF file as the coordinator and the workers do, makes the tokenizer and the chat
// template of it, and uses both. Whether the model opened; its other parts may have been refused.
bool OpenGguf(const std::string& path);

}  // namespace kvec

#endif  // KVEC_TESTS_FUZZ_OPEN_GGUF_H_
