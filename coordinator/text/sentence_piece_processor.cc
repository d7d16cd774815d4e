#include "coordinator/text/sentence_piece_processor.h"

#include <sentencepiece_processor.h>

#include <utility>

namespace kvec::coordinator::text {

struct SentencePieceProcessor::Library {
  sentencepiece::SentencePieceProcessor processor;
};

SentencePieceProcessor::SentencePieceProcessor(std::unique_ptr<Library> library)
    : library_(std::move(library)) {}

SentencePieceProcessor::~SentencePieceProcessor() = default;

std::unique_ptr<SentencePieceProcessor> SentencePieceProcessor::Create(
    const std::string& model_proto, std::string& error) {
  auto library = std::make_unique<Library>();
  const auto status = library->processor.LoadFromSerializedProto(model_proto);
  if (!status.ok()) {
    error = status.ToString();
    return nullptr;
  }
  return std::unique_ptr<SentencePieceProcessor>(new SentencePieceProcessor(std::move(library)));
}

bool SentencePieceProcessor::Encode(std::string_view text, std::vector<int>& ids,
                                    std::string& error) const {
  const auto status = library_->processor.Encode(text, &ids);
  if (!status.ok()) error = status.ToString();
  return status.ok();
}

}  // namespace kvec::coordinator::text
