#include "coordinator/server/vllm/kv_event_translation.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace kvec::coordinator::server::vllm {
namespace {

using scheduler::PrefixEvent;
using ::smg::grpc::common::KvBlocksRemoved;
using ::smg::grpc::common::KvBlocksStored;
using ::smg::grpc::common::KvCacheEvent;
using ::smg::grpc::common::KvEventBatch;

// The first eight bytes of the SHA-256 of the parent's hash, 0 without one, and the tokens.
int64_t HashOf(int64_t parent_hash, const std::array<int32_t, scheduler::kPageTokens>& tokens) {
  std::array<unsigned char, sizeof(parent_hash) + sizeof(tokens)> text;
  std::memcpy(text.data(), &parent_hash, sizeof(parent_hash));
  std::memcpy(text.data() + sizeof(parent_hash), tokens.data(), sizeof(tokens));
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(text.data(), text.size(), digest.data());
  int64_t hash = 0;
  std::memcpy(&hash, digest.data(), sizeof(hash));
  return hash;
}

}  // namespace

KvEventTranslation::KvEventTranslation(uint64_t start_sequence_number)
    : next_sequence_number_(std::max<uint64_t>(start_sequence_number, 1)) {}

KvEventBatch KvEventTranslation::Translate(absl::Span<const PrefixEvent> events, absl::Time now) {
  KvEventBatch batch;
  batch.set_sequence_number(next_sequence_number_++);
  batch.set_timestamp(absl::ToDoubleSeconds(now - absl::UnixEpoch()));
  batch.set_dp_rank(0);
  last_stored_id_ = 0;
  for (const PrefixEvent& event : events) {
    switch (event.kind) {
      case PrefixEvent::Kind::kStored:
        AddStored(event, batch);
        break;
      case PrefixEvent::Kind::kRemoved:
        AddRemoved(event.block_id, batch);
        break;
      case PrefixEvent::Kind::kCleared:
        hashes_.clear();
        AddEvent(batch).mutable_cleared();
        break;
    }
    last_stored_id_ = event.kind == PrefixEvent::Kind::kStored ? event.block_id : 0;
  }
  return batch;
}

KvCacheEvent& KvEventTranslation::AddEvent(KvEventBatch& batch) {
  KvCacheEvent& event = *batch.add_events();
  event.set_event_id(++last_event_id_);
  return event;
}

void KvEventTranslation::AddStored(const PrefixEvent& event, KvEventBatch& batch) {
  const auto parent = hashes_.find(event.parent_id);
  const int64_t parent_hash = parent == hashes_.end() ? 0 : parent->second;
  const int64_t hash = HashOf(parent_hash, event.tokens);
  hashes_[event.block_id] = hash;
  if (last_stored_id_ == 0 || event.parent_id != last_stored_id_) {
    KvBlocksStored& chain = *AddEvent(batch).mutable_stored();
    if (event.parent_id != 0) chain.set_parent_block_hash(parent_hash);
    chain.set_tier(smg::grpc::common::KV_CACHE_TIER_DEVICE);
  }
  auto& block = *batch.mutable_events()->rbegin()->mutable_stored()->add_blocks();
  block.set_block_hash(hash);
  block.mutable_token_ids()->Assign(event.tokens.begin(), event.tokens.end());
  block.set_block_size(scheduler::kPageTokens);
}

void KvEventTranslation::AddRemoved(uint64_t block_id, KvEventBatch& batch) {
  const auto known = hashes_.extract(block_id);
  if (known.empty()) return;
  if (batch.events().empty() || !batch.events().rbegin()->has_removed()) {
    AddEvent(batch).mutable_removed()->set_tier(smg::grpc::common::KV_CACHE_TIER_DEVICE);
  }
  batch.mutable_events()->rbegin()->mutable_removed()->add_block_hashes(known.mapped());
}

}  // namespace kvec::coordinator::server::vllm
