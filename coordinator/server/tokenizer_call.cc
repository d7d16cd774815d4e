#include "coordinator/server/tokenizer_call.h"

#include <algorithm>
#include <utility>

#include "common/grpc_status.h"
#include "common/security/secret.h"
#include "common/status_macros.h"
#include "coordinator/server/vllm/tokenizer_bundle.h"

namespace kvec::coordinator::server {
namespace {

constexpr size_t kChunkBytes = 64 << 10;  // the protocol's limit

}  // namespace

absl::StatusOr<std::shared_ptr<const TokenizerBundle::Archive>> TokenizerBundle::Get() {
  const std::lock_guard lock(mutex_);
  if (std::shared_ptr<const Archive> archive = archive_.lock()) return archive;
  auto archive = std::make_shared<Archive>();
  KVEC_ASSIGN_OR_RETURN(
      archive->bytes,
      vllm::MakeTokenizerBundle(model_.tokenizer_data, *model_.tokenizer, model_.config));
  archive->sha256 = security::Sha256Hex(archive->bytes);
  archive_ = archive;
  return archive;
}

void TokenizerCall::Start(TokenizerBundle& bundle) {
  absl::StatusOr<std::shared_ptr<const TokenizerBundle::Archive>> archive = bundle.Get();
  if (!archive.ok()) {
    Refuse(archive.status());
    return;
  }
  archive_ = *std::move(archive);
  SendNext();
}

void TokenizerCall::Refuse(const absl::Status& status) { Finish(ToGrpcStatus(status)); }

void TokenizerCall::OnWriteDone(bool ok) {
  if (ok && num_sent_bytes_ < archive_->bytes.size()) {
    SendNext();
  } else {
    Finish(ok ? grpc::Status::OK : grpc::Status::CANCELLED);
  }
}

void TokenizerCall::SendNext() {
  const std::string& bytes = archive_->bytes;
  chunk_.set_data(bytes.substr(num_sent_bytes_, kChunkBytes));
  num_sent_bytes_ = std::min(num_sent_bytes_ + kChunkBytes, bytes.size());
  if (num_sent_bytes_ == bytes.size()) chunk_.set_sha256(archive_->sha256);
  StartWrite(&chunk_);
}

}  // namespace kvec::coordinator::server
