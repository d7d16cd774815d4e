#ifndef KVEC_COORDINATOR_CLUSTER_MEMBERSHIP_H_
#define KVEC_COORDINATOR_CLUSTER_MEMBERSHIP_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/cluster/worker_link.h"
#include "kvec/v1/cluster.pb.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::cluster {

// A worker with an open stream.
struct Member {
  enum class State {
    kConnected,  // has not registered yet
    kAttached,   // waits for a group: a spare
    kLoading,    // got FormGroup
    kReady,
    kAborting,  // got AbortGroup, and has not answered yet
    kDraining,  // leaves, and its stream is being closed
  };

  State state = State::kConnected;
  std::shared_ptr<WorkerLink> link;
  v1::Register registration;
  v1::Placement placement;  // in the current or last group
  v1::GroupReady ready;
  v1::Heartbeat heartbeat;
  bool is_leaving = false;  // said so, and is in a group yet: kDraining comes when it is let go
  absl::Time heard_at;      // any message
  absl::Time alive_at;      // idle, or got ahead inside a Step
  double last_step_ms = 0;
  uint32_t replica = 0;  // of the current or last group

  // Closes the stream of a worker that leaves.
  void LetGo();

  // For logs and errors: "worker w1", or "a worker" before it has registered.
  std::string Name() const;
};

// Who is attached, and who still shows signs of life. Not thread-safe: ReplicaSet's thread.
class Membership {
 public:
  struct Options {
    std::string version;
    std::string model_fingerprint;
    // A worker is lost after this long without a heartbeat, or inside a Step without progress.
    absl::Duration heartbeat_timeout = absl::Seconds(10);
  };

  explicit Membership(Options options) : options_(std::move(options)) {}

  void Add(uint64_t id, std::shared_ptr<WorkerLink> link, absl::Time now);

  // FAILED_PRECONDITION for another version or model, ALREADY_EXISTS for a worker_id in use,
  // INVALID_ARGUMENT without one.
  absl::Status Register(uint64_t id, const v1::Register& registration, absl::Time now);

  // Null for an unknown id.
  Member* Find(uint64_t id);

  // Notes that the worker said something. A heartbeat from inside a Step counts as life only when
  // it shows progress since the last one.
  void Hear(Member& member, const v1::WorkerMessage& message, absl::Time now);

  void Remove(uint64_t id, absl::Time now);

  // Members in state kAttached that don't leave, the longest attached first.
  std::vector<uint64_t> Spares() const;

  std::vector<uint64_t> Silent(absl::Time now) const;
  absl::Time NextTimeout() const;

  const std::map<uint64_t, Member>& members() const { return members_; }

  // Attached workers, then the latest lost ones that have not come back. free_pages stay unset.
  std::vector<v1::WorkerStatus> Statuses(absl::Time now) const;

  const Options& options() const { return options_; }

 private:
  struct Lost {
    v1::WorkerStatus status;
    absl::Time heard_at;
  };

  const Options options_;
  std::map<uint64_t, Member> members_;  // ids grow, so this is the order of attachment
  std::deque<Lost> lost_;
};

// The state's word in GetStatus: attached, loading, ready, aborting, draining.
absl::string_view StateName(Member::State state);

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_MEMBERSHIP_H_
