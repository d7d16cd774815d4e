#ifndef KVEC_TESTS_WORKER_ENGINE_GROUP_HARNESS_H_
#define KVEC_TESTS_WORKER_ENGINE_GROUP_HARNESS_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/model/model_files.h"
#include "kernels/cpu/cpu_device.h"
#include "kvec/v1/cluster.pb.h"
#include "tests/worker/comm/thread_communicator.h"
#include "worker/engine/engine.h"

namespace kvec::worker::engine {

struct GroupShape {
  int num_stages = 1;
  int num_ranks = 1;
  int size() const { return num_stages * num_ranks; }
};

// A group of engines over one model, each with a device and a thread of its own, as workers are.
// Steps are handed to workers one by one or to all, and may queue up.
class GroupHarness {
 public:
  struct Options {
    GroupShape shape;
    kernels::KvType kv_type = kernels::KvType::kF32;
    int64_t kv_bytes = 8 << 20;  // of each worker
    comm::ThreadCommOptions comm;
  };

  // `files` outlives the harness.
  GroupHarness(const ModelFiles& files, const Options& options);
  ~GroupHarness();

  // Every worker's, stage-major; none may have Steps to do.
  std::vector<Engine*> engines();
  void SetSentenceEndBits(const std::string& bits);
  // Gives the group new communicators, as when it forms anew.
  void FormAgain();
  void Abort();

  v1::Step NewStep() {
    v1::Step step;
    step.set_step_id(next_step_id_++);
    return step;
  }
  void SubmitTo(int worker, const v1::Step& step);
  void Submit(const v1::Step& step);
  // Waits for a worker's oldest result that was not taken yet.
  absl::StatusOr<v1::StepResult> TakeFrom(int worker);
  // Waits for all workers' oldest results, and joins them; fails the test when one is an error.
  v1::StepResult Take();

  v1::StepResult Run(const v1::Step& step) {
    Submit(step);
    return Take();
  }

 private:
  struct Worker {
    std::unique_ptr<kernels::cpu::CpuDevice> device;
    Progress progress;
    std::unique_ptr<Engine> engine;
    std::unique_ptr<comm::GroupComm> comm;
    std::thread thread;
    std::deque<v1::Step> steps;                          // guarded by mutex_
    std::deque<absl::StatusOr<v1::StepResult>> results;  // guarded by mutex_
  };

  void Work(Worker& worker);

  const ModelFiles& files_;
  const Options options_;
  uint64_t next_step_id_ = 1;
  std::vector<std::unique_ptr<Worker>> workers_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

// What a group's workers report of one eviction, as the coordinator joins it: stage-major, of
// num_ranks workers each. Without times.
v1::EvictionReport JoinReports(const std::vector<v1::EvictionReport>& reports, int num_ranks);

}  // namespace kvec::worker::engine

#endif  // KVEC_TESTS_WORKER_ENGINE_GROUP_HARNESS_H_
