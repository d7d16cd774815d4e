#ifndef KVEC_COMMON_MODEL_MODEL_FILES_H_
#define KVEC_COMMON_MODEL_MODEL_FILES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/model/model_config.h"
#include "common/model/tokenizer_data.h"
#include "common/tensor/tensor_type.h"

namespace kvec {

// A tensor inside a mapped file; valid as long as its ModelFiles. Row-major, outermost dimension
// first: a weight is [out_features, in_features] (GGUF stores the dimensions the other way round).
struct FileTensor {
  std::string name;  // GGUF's name: blk.3.attn_k.weight
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;
  absl::Span<const uint8_t> data;  // at any address: files promise no alignment
};

// A model on disk, memory-mapped: one GGUF file, or a Hugging Face folder with config.json,
// *.safetensors (with or without an index) and tokenizer.json. Immutable after Open, but
// for DropTokenizer; any thread.
class ModelFiles {
 public:
  virtual ~ModelFiles() = default;

  // NOT_FOUND for a missing path or file, INVALID_ARGUMENT for anything malformed; the message
  // names the file, the field or tensor, and the offending value. Every size and offset in the
  // files is checked before it is used. Weights' contents are not read.
  static absl::StatusOr<std::unique_ptr<ModelFiles>> Open(const std::string& path);

  virtual const ModelConfig& config() const = 0;
  virtual const TokenizerData& tokenizer() const = 0;
  // Gives the vocabulary's memory back, for those who only want the weights: tokenizer() is empty
  // from then on. Not while another thread uses the model.
  virtual void DropTokenizer() = 0;

  // By GGUF name, for both kinds of file. NOT_FOUND names the tensor.
  // Norm weights of a Hugging Face gemma3 (stored minus one) are served as GGUF stores them.
  virtual absl::StatusOr<FileTensor> FindTensor(absl::string_view name) const = 0;
  virtual bool HasTensor(absl::string_view name) const = 0;
  virtual std::vector<FileTensor> tensors() const = 0;

  // Equal for equal files: hex SHA-256 over configuration, tensor directory, and samples of the
  // data.
  virtual const std::string& fingerprint() const = 0;

  // Tells the system that the weights' pages are not needed for now, so that they stop counting as
  // resident; they are read again from disk on the next use.
  virtual void ReleasePages() const = 0;
};

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_MODEL_FILES_H_
