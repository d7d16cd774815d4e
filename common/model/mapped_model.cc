#include "common/model/mapped_model.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"
#include "common/model/fingerprint.h"
#include "common/model/model_limits.h"
#include "common/model/tensor_requirements.h"
#include "common/status_macros.h"

namespace kvec {

MappedModel::MappedModel(Parts parts) : parts_(std::move(parts)) {
  std::sort(parts_.tensors.begin(), parts_.tensors.end(),
            [](const FileTensor& a, const FileTensor& b) { return a.name < b.name; });
  for (const FileTensor& tensor : parts_.tensors) index_.emplace(tensor.name, &tensor);
}

absl::StatusOr<std::unique_ptr<ModelFiles>> MappedModel::Create(Parts parts) {
  KVEC_RETURN_IF_ERROR(CheckModelConfig(parts.config));
  std::unique_ptr<MappedModel> model = absl::WrapUnique(new MappedModel(std::move(parts)));
  KVEC_RETURN_IF_ERROR(model->CheckRequiredTensors());
  model->fingerprint_ =
      Fingerprint(model->parts_.config, model->parts_.tokenizer, model->parts_.tensors);
  return model;
}

absl::Status MappedModel::CheckRequiredTensors() const {
  for (const TensorRequirement& required : RequiredTensors(parts_.config)) {
    const auto it = index_.find(required.name);
    if (it == index_.end()) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", required.name, ": is missing"));
    }
    if (it->second->shape != required.shape) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", required.name, ": has shape ", ShapeText(it->second->shape),
                       ", the configuration asks for ", ShapeText(required.shape)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<FileTensor> MappedModel::FindTensor(absl::string_view name) const {
  const auto it = index_.find(name);
  if (it == index_.end()) {
    return absl::NotFoundError(absl::StrCat("tensor ", Quoted(name), ": not in the model"));
  }
  return *it->second;
}

void MappedModel::ReleasePages() const {
  for (const std::unique_ptr<MappedFile>& file : parts_.files) file->ReleasePages();
}

}  // namespace kvec
