// A chat template (Jinja), a user's message, and a client's template arguments (JSON), separated as
// SplitParts says.
#include <string>
#include <vector>

#include "coordinator/text/chat_template.h"
#include "tests/coordinator/server/test_model.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using kvec::coordinator::text::ChatTemplate;
  static const auto* const kModel = kvec::coordinator::server::MakeTestModel().release();
  const std::vector<std::string> parts = kvec::SplitParts(kvec::AsText(data, size), 3);
  const auto chat = ChatTemplate::Create(parts[0], *kModel->tokenizer);
  if (!chat.ok()) return 0;
  const kvec::coordinator::text::ChatMessage messages[] = {
      {"system", "Be brief."}, {"user", parts[1]}, {"assistant", "Yes?"}, {"user", "<|mark|>"}};
  (*chat)->Encode(messages, parts[2]).IgnoreError();
  return 0;
}
