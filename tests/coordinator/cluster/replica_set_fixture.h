#ifndef KVEC_TESTS_COORDINATOR_CLUSTER_REPLICA_SET_FIXTURE_H_
#define KVEC_TESTS_COORDINATOR_CLUSTER_REPLICA_SET_FIXTURE_H_

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/cluster/replica_set.h"
#include "gtest/gtest.h"
#include "tests/coordinator/cluster/recording_scheduler.h"

namespace kvec::coordinator::cluster {

class RecordingLink : public WorkerLink {
 public:
  void Send(v1::CoordinatorMessage message) override { sent.push_back(std::move(message)); }
  void Close(absl::Status status) override {
    if (!closed.has_value()) closed = std::move(status);
  }

  std::vector<v1::CoordinatorMessage> sent;
  std::optional<absl::Status> closed;
};

// A group and workers of it that answer nothing by themselves. Time stands still unless a test
// moves it.
class ReplicaSetFixture : public testing::Test {
 protected:
  void MakeGroup(ParallelShape shape, absl::Duration heartbeat_timeout = absl::Seconds(10)) {
    Make(shape, heartbeat_timeout);
  }
  void MakeGroupOfAnyShape() { Make(std::nullopt, absl::Hours(1)); }

  void Make(std::optional<ParallelShape> shape, absl::Duration heartbeat_timeout) {
    ReplicaSet::Options options;
    options.membership.version = "1.0";
    options.membership.model_fingerprint = "model";
    options.membership.heartbeat_timeout = heartbeat_timeout;
    options.shape = shape;
    options.model.num_layers = 5;
    options.model.num_heads = 4;
    options.model.num_kv_heads = 2;
    options.group.sliding_windows = {0, 512, 0, 512, 0};
    options.group.model_bytes = {.layers = {10, 10, 10, 10, 10}, .cache = {0, 0, 0, 0, 0}};
    options.group.sentence_end_bits = "bits";
    options.group.step_tokens = 128;
    options.on_ready_changed = [this](bool ready) { ready_changes_.push_back(ready); };
    std::vector<scheduler::Scheduler*> schedulers = {&scheduler_};
    for (RecordingScheduler& other : others_) schedulers.push_back(&other);
    set_ = std::make_unique<ReplicaSet>(std::move(options), schedulers);
  }

  uint64_t Connect() {
    const uint64_t id = next_id_++;
    links_[id] = std::make_shared<RecordingLink>();
    set_->OnAttach(id, links_[id], now_);
    return id;
  }

  void Say(uint64_t id, const v1::WorkerMessage& message) { set_->OnMessage(id, message, now_); }

  v1::WorkerMessage Registration(const std::string& worker_id) {
    v1::WorkerMessage message;
    v1::Register& registration = *message.mutable_register_();
    registration.set_worker_id(worker_id);
    registration.set_version("1.0");
    registration.set_model_fingerprint("model");
    registration.set_comm_address(absl::StrCat("address of ", worker_id));
    return message;
  }

  uint64_t Attach(const std::string& worker_id) {
    const uint64_t id = Connect();
    Say(id, Registration(worker_id));
    return id;
  }

  // The worker answers the last FormGroup that it got.
  void SayReady(uint64_t id, uint32_t max_step_tokens = 128) {
    v1::WorkerMessage message;
    v1::GroupReady& ready = *message.mutable_group_ready();
    ready.set_group_epoch(LastEpoch(id));
    ready.set_total_pages(100);
    ready.set_page_bytes(4096);
    ready.set_num_kv_heads(3);
    ready.set_max_step_tokens(max_step_tokens);
    Say(id, message);
  }

  uint64_t LastEpoch(uint64_t id) const {
    uint64_t epoch = 0;
    for (const v1::CoordinatorMessage& message : links_.at(id)->sent) {
      if (message.has_form_group()) epoch = message.form_group().group_epoch();
    }
    return epoch;
  }

  const v1::CoordinatorMessage& LastSent(uint64_t id) const { return links_.at(id)->sent.back(); }

  void SayHeartbeat(uint64_t id, bool in_step, uint64_t layers_done) {
    v1::WorkerMessage message;
    message.mutable_heartbeat()->set_in_step(in_step);
    message.mutable_heartbeat()->set_layers_done(layers_done);
    Say(id, message);
  }

  void SayError(uint64_t id, uint64_t epoch) {
    v1::WorkerMessage message;
    message.mutable_error()->set_group_epoch(epoch);
    message.mutable_error()->set_code(static_cast<int>(absl::StatusCode::kInternal));
    message.mutable_error()->set_message("a collective failed");
    Say(id, message);
  }

  // The worker answers AbortGroup.
  void SayAborted(uint64_t id, const std::string& comm_address = "") {
    v1::WorkerMessage message;
    message.mutable_group_aborted()->set_comm_address(comm_address);
    Say(id, message);
  }

  void PassTime(absl::Duration duration) {
    now_ += duration;
    set_->OnTimeouts(now_);
  }

  RecordingScheduler scheduler_;
  std::deque<RecordingScheduler> others_;  // of further replicas; filled before MakeGroup
  std::unique_ptr<ReplicaSet> set_;
  std::map<uint64_t, std::shared_ptr<RecordingLink>> links_;
  std::vector<bool> ready_changes_;
  uint64_t next_id_ = 1;
  absl::Time now_ = absl::UnixEpoch();
};

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_TESTS_COORDINATOR_CLUSTER_REPLICA_SET_FIXTURE_H_
