#include "coordinator/server/served_model.h"

#include <utility>

#include "common/logging.h"
#include "common/model/model_files.h"
#include "common/status_macros.h"

namespace kvec::coordinator::server {

absl::StatusOr<std::unique_ptr<ServedModel>> ServedModel::Load(const std::string& path,
                                                               const std::string& name) {
  KVEC_ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files, ModelFiles::Open(path));
  auto model = std::make_unique<ServedModel>();
  model->config = files->config();
  model->bytes = cluster::MeasureModelBytes(*files);
  model->name = name.empty() ? model->config.name : name;
  model->fingerprint = files->fingerprint();
  model->tokenizer_data = files->tokenizer();
  KVEC_ASSIGN_OR_RETURN(model->tokenizer, text::Tokenizer::Create(model->tokenizer_data));
  auto chat_template =
      text::ChatTemplate::Create(model->tokenizer_data.chat_template, *model->tokenizer);
  if (!chat_template.ok()) {
    // The model can still continue texts.
    LOG(WARNING) << "model " << model->name
                 << ": chats are refused: " << chat_template.status().message();
    chat_template = text::ChatTemplate::Create("", *model->tokenizer);
  }
  KVEC_ASSIGN_OR_RETURN(model->chat_template, std::move(chat_template));
  return model;
}

}  // namespace kvec::coordinator::server
