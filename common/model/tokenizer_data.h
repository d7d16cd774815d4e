#ifndef KVEC_COMMON_MODEL_TOKENIZER_DATA_H_
#define KVEC_COMMON_MODEL_TOKENIZER_DATA_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvec {

// A vocabulary as a model file stores it; coordinator/text makes a tokenizer of it.
struct TokenizerData {
  enum class Kind { kByteLevelBpe, kSentencePieceBpe };
  // GGUF's numbers (tokenizer.ggml.token_type).
  enum TokenType : int32_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };

  Kind kind = Kind::kByteLevelBpe;
  std::vector<std::string> tokens;   // [vocab_size], as stored
  std::vector<int32_t> token_types;  // [vocab_size]
  std::vector<float> scores;         // [vocab_size], SentencePiece only
  std::vector<std::string> merges;   // "left right", byte-level BPE only, best first
  std::string pre_tokenizer;  // GGUF's tokenizer.ggml.pre: "smollm", "llama-bpe", "qwen2" …
  std::string chat_template;  // Jinja; may be empty
  std::optional<int32_t> bos_id;
  std::optional<int32_t> unknown_id;
  std::vector<int32_t> eos_ids;  // every id that ends a generation (eos, eot, eom …)
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = false;  // SentencePiece

  // A Hugging Face folder's files instead of the fields above but chat_template, eos_ids, bos_id
  // and add_bos; empty for GGUF.
  std::string tokenizer_json;
};

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_TOKENIZER_DATA_H_
