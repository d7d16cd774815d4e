// A tokenizer.json, and texts through the tokenizer made of it.
#include "common/model/tokenizer_data.h"
#include "coordinator/text/tokenizer.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kvec::TokenizerData tokenizer_data;
  tokenizer_data.tokenizer_json = std::string(kvec::AsText(data, size));
  const auto tokenizer = kvec::coordinator::text::Tokenizer::Create(tokenizer_data);
  if (!tokenizer.ok()) return 0;
  SentenceEndBits(**tokenizer);
  for (const char* text :
       {"", " a  hello hello\r\n\n 1234's <|end|><think>", "\xc3\xa9\xe4\xbd\xa0",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"}) {
    const auto ids = (*tokenizer)->Encode(text, {});
    if (ids.ok()) (*tokenizer)->Decode(*ids, /*skip_special=*/false);
  }
  return 0;
}
