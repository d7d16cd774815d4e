#include "tests/coordinator/server/test_model.h"

#include <utility>

#include "common/logging.h"
#include "common/model/tokenizer_data.h"
#include "coordinator/text/byte_alphabet.h"

namespace kvec::coordinator::server {

std::unique_ptr<ServedModel> MakeTestModel() {
  TokenizerData data;
  data.kind = TokenizerData::Kind::kByteLevelBpe;
  data.pre_tokenizer = "smollm";
  for (int byte = 0; byte < 256; ++byte) {
    data.tokens.push_back(text::ByteToAlphabet(static_cast<uint8_t>(byte)));
    data.token_types.push_back(TokenizerData::kNormal);
  }
  for (const char* token : {"<|end|>", "<|mark|>"}) {
    data.tokens.emplace_back(token);
    data.token_types.push_back(TokenizerData::kControl);
  }
  data.eos_ids = {kTestEos};
  data.chat_template = "{% for m in messages %}{{ m['content'] }}<|mark|>{% endfor %}";

  auto model = std::make_unique<ServedModel>();
  model->tokenizer_data = data;
  model->name = "test";
  model->fingerprint = "test-fingerprint";
  model->config.family = ModelFamily::kLlama;
  model->config.num_layers = 2;
  model->config.hidden_size = 64;
  model->config.num_heads = 4;
  model->config.num_kv_heads = 2;
  model->config.head_dim = 16;
  model->config.vocab_size = kTestVocabSize;
  model->config.context_length = kTestContext;
  model->config.sliding_windows = {0, 0};
  model->bytes = {.layers = {1000, 1000}, .embedding = 100, .head = 100, .cache = {0, 0}};
  auto tokenizer = text::Tokenizer::Create(data);
  CHECK(tokenizer.ok()) << tokenizer.status();
  model->tokenizer = *std::move(tokenizer);
  auto chat_template = text::ChatTemplate::Create(data.chat_template, *model->tokenizer);
  CHECK(chat_template.ok()) << chat_template.status();
  model->chat_template = *std::move(chat_template);
  return model;
}

}  // namespace kvec::coordinator::server
