#ifndef KVEC_COMMON_MODEL_MAPPED_MODEL_H_
#define KVEC_COMMON_MODEL_MAPPED_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/model/mapped_file.h"
#include "common/model/model_files.h"

namespace kvec {

// The ModelFiles of both kinds of model on disk: what their readers found, with GGUF's names.
class MappedModel : public ModelFiles {
 public:
  struct Parts {
    std::vector<std::unique_ptr<MappedFile>> files;
    std::vector<std::unique_ptr<std::vector<float>>>
        converted;  // data that no file holds as served
    ModelConfig config;
    TokenizerData tokenizer;
    std::vector<FileTensor> tensors;  // unique names; data in `files` or `converted`
  };

  // INVALID_ARGUMENT when the configuration is inconsistent, or when a tensor that it asks for is
  // missing or of another shape.
  static absl::StatusOr<std::unique_ptr<ModelFiles>> Create(Parts parts);

  const ModelConfig& config() const override { return parts_.config; }
  const TokenizerData& tokenizer() const override { return parts_.tokenizer; }
  void DropTokenizer() override { parts_.tokenizer = TokenizerData(); }
  absl::StatusOr<FileTensor> FindTensor(absl::string_view name) const override;
  bool HasTensor(absl::string_view name) const override { return index_.contains(name); }
  std::vector<FileTensor> tensors() const override { return parts_.tensors; }
  const std::string& fingerprint() const override { return fingerprint_; }
  void ReleasePages() const override;

 private:
  explicit MappedModel(Parts parts);
  absl::Status CheckRequiredTensors() const;

  Parts parts_;  // tensors sorted by name
  absl::flat_hash_map<absl::string_view, const FileTensor*> index_;
  std::string fingerprint_;
};

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_MAPPED_MODEL_H_
