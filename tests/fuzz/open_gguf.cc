#include "tests/fuzz/open_gguf.h"

#include "common/model/model_files.h"
#include "coordinator/text/chat_template.h"
#include "coordinator/text/tokenizer.h"

namespace kvec {

bool OpenGguf(const std::string& path) {
  using coordinator::text::ChatTemplate;
  using coordinator::text::Tokenizer;
  const auto model = ModelFiles::Open(path);
  if (!model.ok()) return false;
  const auto tokenizer = Tokenizer::Create((*model)->tokenizer());
  if (!tokenizer.ok()) return true;
  if (const auto ids = (*tokenizer)->Encode("Hello, <unk> w\xc3\xb6rld 12\n", {}); ids.ok()) {
    (*tokenizer)->Decode(*ids, /*skip_special=*/true);
  }
  SentenceEndBits(**tokenizer);
  const auto chat = ChatTemplate::Create((*model)->tokenizer().chat_template, **tokenizer);
  if (chat.ok()) (*chat)->Encode({{"user", "Hello"}}, "").IgnoreError();
  return true;
}

}  // namespace kvec
