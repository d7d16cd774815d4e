#ifndef KVEC_COORDINATOR_SERVER_VLLM_KV_EVENT_TRANSLATION_H_
#define KVEC_COORDINATOR_SERVER_VLLM_KV_EVENT_TRANSLATION_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "coordinator/scheduler/prefix_feed.h"
#include "smg/common.pb.h"

namespace kvec::coordinator::server::vllm {

// Turns the prefix cache's changes into the batches of one SubscribeKvEvents stream. The gateway
// knows a block by a hash, which is the same in every coordinator: of its parent's hash and its own
// tokens.
class KvEventTranslation {
 public:
  // The stream's first batch gets this number, or 1: to a subscriber that comes back, the stream
  // goes on where it broke, with a new beginning.
  explicit KvEventTranslation(uint64_t start_sequence_number);

  // The changes in order, as a feed gives them.
  smg::grpc::common::KvEventBatch Translate(absl::Span<const scheduler::PrefixEvent> events,
                                            absl::Time now);

 private:
  smg::grpc::common::KvCacheEvent& AddEvent(smg::grpc::common::KvEventBatch& batch);
  void AddStored(const scheduler::PrefixEvent& event, smg::grpc::common::KvEventBatch& batch);
  void AddRemoved(uint64_t block_id, smg::grpc::common::KvEventBatch& batch);

  uint64_t next_sequence_number_;
  uint64_t last_event_id_ = 0;
  uint64_t last_stored_id_ = 0;                    // block that the last event of a batch ends with
  absl::flat_hash_map<uint64_t, int64_t> hashes_;  // by block id
};

}  // namespace kvec::coordinator::server::vllm

#endif  // KVEC_COORDINATOR_SERVER_VLLM_KV_EVENT_TRANSLATION_H_
