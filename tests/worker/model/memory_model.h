#ifndef KVEC_TESTS_WORKER_MODEL_MEMORY_MODEL_H_
#define KVEC_TESTS_WORKER_MODEL_MEMORY_MODEL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/model/model_files.h"

namespace kvec {

// A model of random weights that lies in no file: shapes and encodings that no stored model has.
class MemoryModel : public ModelFiles {
 public:
  // Of the weights with two dimensions, by name; all others are F32.
  using TypeOf = std::function<TensorType(absl::string_view name)>;

  MemoryModel(const ModelConfig& config, const TypeOf& type_of, uint32_t seed);

  const ModelConfig& config() const override { return config_; }
  const TokenizerData& tokenizer() const override { return tokenizer_; }
  void DropTokenizer() override {}
  absl::StatusOr<FileTensor> FindTensor(absl::string_view name) const override;
  bool HasTensor(absl::string_view name) const override { return FindTensor(name).ok(); }
  std::vector<FileTensor> tensors() const override;
  const std::string& fingerprint() const override { return fingerprint_; }
  void ReleasePages() const override {}

 private:
  const ModelConfig config_;
  const TokenizerData tokenizer_{};
  const std::string fingerprint_ = "random";
  std::map<std::string, FileTensor, std::less<>> tensors_;
  std::vector<std::vector<uint8_t>> data_;  // of tensors_
};

// A llama of these heads and sizes, with one layer per window.
ModelConfig SmallConfig(int num_heads, int num_kv_heads, int head_dim, int intermediate_size,
                        std::vector<int> sliding_windows);

}  // namespace kvec

#endif  // KVEC_TESTS_WORKER_MODEL_MEMORY_MODEL_H_
