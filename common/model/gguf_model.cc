#include "common/model/gguf_model.h"

#include <utility>

#include "common/model/error_text.h"
#include "common/model/gguf_config.h"
#include "common/model/gguf_file.h"
#include "common/model/gguf_tokenizer.h"
#include "common/model/mapped_file.h"
#include "common/model/mapped_model.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

absl::StatusOr<std::unique_ptr<ModelFiles>> ReadGgufModel(std::unique_ptr<MappedFile> mapped) {
  KVEC_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(mapped->bytes()));
  MappedModel::Parts parts;
  KVEC_ASSIGN_OR_RETURN(parts.config, ReadGgufConfig(file));
  KVEC_ASSIGN_OR_RETURN(parts.tokenizer,
                        ReadGgufTokenizer(file.metadata(), parts.config.vocab_size));
  parts.tensors = file.tensors();
  parts.files.push_back(std::move(mapped));
  return MappedModel::Create(std::move(parts));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelFiles>> OpenGgufModel(const std::string& path) {
  KVEC_ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> mapped, MappedFile::Open(path));
  absl::StatusOr<std::unique_ptr<ModelFiles>> model = ReadGgufModel(std::move(mapped));
  if (!model.ok()) return Annotate(model.status(), path);
  return model;
}

}  // namespace kvec
