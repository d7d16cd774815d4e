#ifndef KVEC_COMMON_MODEL_MODEL_CONFIG_H_
#define KVEC_COMMON_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kvec {

enum class ModelFamily { kLlama, kQwen2, kQwen3, kGemma3 };

absl::string_view ModelFamilyName(ModelFamily family);  // "llama", "qwen2", …
absl::string_view KnownModelFamilyNames();              // for messages

// Which two numbers of a head rotary embedding turns together.
enum class RopePairing {
  kHalves,      // i and i + head_dim / 2: Hugging Face checkpoints, qwen and gemma GGUF files
  kInterleaved  // 2 i and 2 i + 1: llama GGUF files, whose q and k rows are permuted for it
};

struct RopeConfig {
  float theta = 10000.0f;
  // One factor per rotated pair by which its frequency is divided, [head_dim / 2]; empty: all 1.
  // Holds Llama 3's scaling (config.json "rope_scaling", GGUF tensor rope_freqs.weight) and linear
  // scaling alike.
  std::vector<float> frequency_factors;
};

enum class Activation { kSilu, kGeluTanh };

// What a decoder-only transformer looks like, read from a GGUF file's metadata or a Hugging Face
// config.json, and checked: all sizes are positive and consistent with each other.
struct ModelConfig {
  ModelFamily family = ModelFamily::kLlama;
  std::string name;  // for people
  int num_layers = 0;
  int hidden_size = 0;
  int intermediate_size = 0;
  int num_heads = 0;     // query heads
  int num_kv_heads = 0;  // num_heads is a multiple
  int head_dim = 0;
  int vocab_size = 0;
  int context_length = 0;
  float rms_norm_eps = 0;
  Activation activation = Activation::kSilu;
  RopePairing rope_pairing = RopePairing::kHalves;
  RopeConfig rope;        // of layers with full attention
  RopeConfig local_rope;  // of layers with a sliding window
  // [num_layers] tokens that a query of the layer sees, itself included; 0: all before it.
  std::vector<int> sliding_windows;
  bool has_attention_bias = false;   // on q, k, v
  bool has_qk_norm = false;          // RMSNorm of each query and key head
  bool has_post_norms = false;       // gemma3: RMSNorm after attention and after the MLP too
  bool tie_word_embeddings = false;  // output.weight is token_embd.weight
  float embedding_scale = 1.0f;
  float attention_scale = 0;  // of q·k, usually head_dim^-0.5
};

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_MODEL_CONFIG_H_
