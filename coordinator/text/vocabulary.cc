#include "coordinator/text/vocabulary.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::coordinator::text {
namespace {

absl::Status CheckId(const char* field, int32_t id, size_t vocab_size) {
  if (id >= 0 && static_cast<size_t>(id) < vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("tokenizer: ", field, " is ", id, ", the vocabulary has ", vocab_size));
}

}  // namespace

absl::Status CheckSpecialIds(const Vocabulary& vocabulary) {
  const size_t vocab_size = vocabulary.token_bytes.size();
  if (vocabulary.bos_id.has_value()) {
    KVEC_RETURN_IF_ERROR(CheckId("bos_id", *vocabulary.bos_id, vocab_size));
  } else if (vocabulary.add_bos) {
    return absl::InvalidArgumentError("tokenizer: add_bos is set, but there is no bos_id");
  }
  for (const int32_t id : vocabulary.eos_ids) {
    KVEC_RETURN_IF_ERROR(CheckId("eos_id", id, vocab_size));
  }
  if (vocabulary.add_eos && vocabulary.eos_ids.empty()) {
    return absl::InvalidArgumentError("tokenizer: add_eos is set, but there is no eos_id");
  }
  return absl::OkStatus();
}

}  // namespace kvec::coordinator::text
