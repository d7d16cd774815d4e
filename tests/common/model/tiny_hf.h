#ifndef KVEC_TESTS_COMMON_MODEL_TINY_HF_H_
#define KVEC_TESTS_COMMON_MODEL_TINY_HF_H_

#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/common/model/safetensors_writer.h"
#include "tests/common/model/temp_folder.h"

namespace kvec {

// The parts of a Hugging Face folder of a few kilobytes, to be written as they are or spoilt by a
// test: 2 layers, hidden_size 8, intermediate_size 16, 4 query and 2 KV heads of head_dim 4, 12
// tokens, context 64, F32 weights, tied embeddings.
struct TinyHf {
  nlohmann::json config;
  nlohmann::json tokenizer;
  nlohmann::json tokenizer_config;
  std::vector<SafetensorsTensor> tensors;

  // model_type: llama, mistral, qwen2, qwen3 or gemma3_text.
  explicit TinyHf(const std::string& model_type);

  SafetensorsTensor& Find(const std::string& tensor_name);
  // config.json, tokenizer.json, tokenizer_config.json and model.safetensors.
  void Write(const TempFolder& folder) const;
};

}  // namespace kvec

#endif  // KVEC_TESTS_COMMON_MODEL_TINY_HF_H_
