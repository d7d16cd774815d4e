#ifndef KVEC_TESTS_COORDINATOR_SCHEDULER_FAKE_WORKER_H_
#define KVEC_TESTS_COORDINATOR_SCHEDULER_FAKE_WORKER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/scheduler.h"
#include "kvec/v1/cluster.pb.h"
#include "tests/coordinator/scheduler/fake_model.h"

namespace kvec::coordinator::scheduler {

// Executes Steps as cluster.proto says, with FakeModel for a model and with real page tables: one
// per (layer, KV head), pages with reference counts. An error for whatever a worker could not do.
class FakeWorker {
 public:
  // is_sampler: it reports tokens and scores.
  FakeWorker(WorkerCapacity capacity, bool is_sampler);

  absl::StatusOr<v1::StepResult> Execute(const v1::Step& step);

  const WorkerCapacity& capacity() const { return capacity_; }
  uint64_t num_free_pages() const { return free_.size(); }
  // Used while the rows of the last Step ran.
  uint64_t most_pages_in_step() const { return most_pages_in_step_; }
  size_t num_sequences() const { return sequences_.size(); }
  // One of every head.
  uint64_t num_kept_pages() const {
    return kept_blocks_.size() * capacity_.sliding_windows.size() * capacity_.num_kv_heads;
  }

 private:
  struct Table {
    std::vector<uint32_t> pages;
    uint32_t num_released = 0;  // leading pages, slid out
    uint32_t num_entries = 0;
  };

  struct Sequence {
    v1::SequenceStart start;
    std::vector<Table> tables;  // [layers, KV heads]
    uint32_t num_tokens = 0;
    FakeModel::State state = FakeModel::kEmpty;
    FakeModel::State logits = FakeModel::kEmpty;  // of the last row
    std::vector<FakeModel::State> states;         // after each row
    std::map<uint32_t, int32_t> sampled;          // choice → its last token
    bool is_forkable = false;
    uint32_t num_read_again = 0;
    uint64_t peak_pages = 0;
    uint64_t num_pages() const;
  };

  struct Block {
    std::vector<uint32_t> pages;  // [layers, KV heads]
    FakeModel::State state;       // after its last row
  };

  absl::Status Start(const v1::SequenceStart& start);
  absl::Status Continue(const v1::SequenceStart& start);
  absl::Status Share(const v1::SequenceStart& start, Sequence& sequence);
  absl::Status Keep(const v1::BlockKeep& keep);
  absl::Status FreeBlock(uint64_t block_id);
  absl::Status Fork(const v1::SequenceFork& fork);
  absl::Status ReadAgain(const v1::SequenceReading& reading);
  absl::Status Evict(const v1::EvictionOrder& order, v1::StepResult& result);
  absl::Status Work(const v1::SequenceWork& work, v1::StepResult& result);
  absl::Status Append(Sequence& sequence, uint32_t num_tokens);
  void Sample(const v1::SequenceWork& work, Sequence& sequence, v1::StepResult& result);
  void Free(Sequence& sequence);
  void ReleaseSlidOut(Sequence& sequence);
  absl::StatusOr<uint32_t> AllocatePage();
  void ReleasePage(uint32_t page);
  uint32_t window_of(size_t table) const {
    return capacity_.sliding_windows[table / capacity_.num_kv_heads];
  }

  const WorkerCapacity capacity_;
  const bool is_sampler_;
  std::vector<uint32_t> free_;
  std::vector<uint32_t> references_;  // [pages]
  uint64_t most_pages_in_step_ = 0;
  std::map<uint64_t, Sequence> sequences_;
  std::map<uint64_t, Block> kept_blocks_;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_TESTS_COORDINATOR_SCHEDULER_FAKE_WORKER_H_
