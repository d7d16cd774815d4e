// A GGUF file, as the coordinator and the workers open it: the directory, the configuration, and
// the tokenizer and chat template made of it.
#include <memory>

#include "common/model/model_files.h"
#include "coordinator/text/chat_template.h"
#include "coordinator/text/tokenizer.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using kvec::coordinator::text::ChatTemplate;
  using kvec::coordinator::text::Tokenizer;
  const kvec::MemoryFile file(kvec::AsText(data, size));
  const auto model = kvec::ModelFiles::Open(file.path());
  if (!model.ok()) return 0;
  const auto tokenizer = Tokenizer::Create((*model)->tokenizer());
  if (!tokenizer.ok()) return 0;
  if (const auto ids = (*tokenizer)->Encode("Hello, <unk> wörld 12\n", {}); ids.ok()) {
    (*tokenizer)->Decode(*ids, /*skip_special=*/true);
  }
  SentenceEndBits(**tokenizer);
  const auto chat = ChatTemplate::Create((*model)->tokenizer().chat_template, **tokenizer);
  if (chat.ok()) (*chat)->Encode({{"user", "Hello"}}, "").IgnoreError();
  return 0;
}
