// A GGUF file, as the coordinator and the workers open it: the directory, the configuration, and
// the tokenizer and chat template made of it.
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/open_gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const kvec::MemoryFile file(kvec::AsText(data, size));
  kvec::OpenGguf(file.path());
  return 0;
}
