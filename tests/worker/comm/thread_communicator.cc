#include "tests/worker/comm/thread_communicator.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace kvec::worker::comm {
namespace {

enum class Operation { kMessage, kAllReduce, kAllGather, kBroadcast };

// Everything that is under way between the ranks.
class Exchange {
 public:
  Exchange(int size, const ThreadCommOptions& options)
      : size_(size), options_(options), queues_(static_cast<size_t>(size) * size) {}

  int size() const { return size_; }

  // Returns when the data is buffered; a message too long for that, when it is received.
  absl::Status Post(Operation operation, int from, int to, absl::Span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    KVEC_RETURN_IF_ERROR(CheckAborted());
    Queue& queue = QueueOf(from, to);
    queue.messages.push_back({operation, {data.begin(), data.end()}});
    const uint64_t number = ++queue.num_posted;
    changed_.notify_all();
    if (operation != Operation::kMessage || data.size() <= options_.buffered_bytes) {
      return absl::OkStatus();
    }
    return Await([&] { return queue.num_taken >= number; });
  }

  absl::Status Take(Operation operation, int from, int to, absl::Span<uint8_t> data) {
    const std::lock_guard lock(mutex_);
    Queue& queue = QueueOf(from, to);
    KVEC_RETURN_IF_ERROR(Await([&] { return !queue.messages.empty(); }));
    const Message message = std::move(queue.messages.front());
    queue.messages.pop_front();
    ++queue.num_taken;
    changed_.notify_all();
    if (message.operation != operation || message.data.size() != data.size()) {
      return absl::InternalError(
          absl::StrCat("rank ", from, " sent ", message.data.size(), " bytes by operation ",
                       static_cast<int>(message.operation), ", rank ", to, " takes ", data.size(),
                       " by ", static_cast<int>(operation)));
    }
    std::copy(message.data.begin(), message.data.end(), data.begin());
    return absl::OkStatus();
  }

  void Abort() {
    const std::lock_guard lock(mutex_);
    aborted_ = true;
    changed_.notify_all();
  }

 private:
  struct Message {
    Operation operation;
    std::vector<uint8_t> data;
  };
  struct Queue {
    std::deque<Message> messages;
    uint64_t num_posted = 0;
    uint64_t num_taken = 0;
  };

  Queue& QueueOf(int from, int to) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return queues_[static_cast<size_t>(from) * size_ + to];
  }

  absl::Status CheckAborted() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return aborted_ ? absl::UnavailableError("communicator: aborted") : absl::OkStatus();
  }

  template <typename Condition>
  absl::Status Await(Condition condition) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Time deadline = absl::Now() + options_.deadline;
    while (!condition()) {
      KVEC_RETURN_IF_ERROR(CheckAborted());
      if (changed_.wait_until(mutex_, absl::ToChronoTime(deadline)) == std::cv_status::timeout &&
          !condition()) {
        return absl::DeadlineExceededError("communicator: the peer does not come");
      }
    }
    return CheckAborted();
  }

  const int size_;
  const ThreadCommOptions options_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<Queue> queues_ ABSL_GUARDED_BY(mutex_);  // [from, to]
  bool aborted_ ABSL_GUARDED_BY(mutex_) = false;
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Exchange> exchange, int rank)
      : exchange_(std::move(exchange)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return exchange_->size(); }

  absl::Status AllReduceSum(kernels::Tensor x) override {
    std::vector<float> mine;
    for (int row = 0; row < x.rows; ++row) {
      mine.insert(mine.end(), x.data + row * x.stride, x.data + row * x.stride + x.cols);
    }
    std::vector<float> all(mine.size() * static_cast<size_t>(size()));
    KVEC_RETURN_IF_ERROR(Gather(Operation::kAllReduce, AsBytes(mine), AsBytes(all)));
    for (int row = 0; row < x.rows; ++row) {
      for (int col = 0; col < x.cols; ++col) {
        const size_t index = static_cast<size_t>(row) * x.cols + col;
        float sum = all[index];
        for (int rank = 1; rank < size(); ++rank) sum += all[rank * mine.size() + index];
        x.data[row * x.stride + col] = sum;
      }
    }
    return absl::OkStatus();
  }

  absl::Status AllGather(absl::Span<const uint8_t> mine, absl::Span<uint8_t> all) override {
    return Gather(Operation::kAllGather, mine, all);
  }

  absl::Status Broadcast(int root, absl::Span<uint8_t> data) override {
    if (rank_ != root) return exchange_->Take(Operation::kBroadcast, root, rank_, data);
    for (int to = 0; to < size(); ++to) {
      if (to == root) continue;
      KVEC_RETURN_IF_ERROR(exchange_->Post(Operation::kBroadcast, root, to, data));
    }
    return absl::OkStatus();
  }

  absl::Status Send(int to, absl::Span<const uint8_t> data) override {
    return exchange_->Post(Operation::kMessage, rank_, to, data);
  }
  absl::Status Receive(int from, absl::Span<uint8_t> data) override {
    return exchange_->Take(Operation::kMessage, from, rank_, data);
  }

  void Abort() override { exchange_->Abort(); }

 private:
  static absl::Span<uint8_t> AsBytes(std::vector<float>& values) {
    return {reinterpret_cast<uint8_t*>(values.data()), values.size() * sizeof(float)};
  }

  absl::Status Gather(Operation operation, absl::Span<const uint8_t> mine,
                      absl::Span<uint8_t> all) {
    if (all.size() != mine.size() * static_cast<size_t>(size())) {
      return absl::InternalError(absl::StrCat("all_gather: ", mine.size(), " bytes of each of ",
                                              size(), " ranks into ", all.size()));
    }
    for (int to = 0; to < size(); ++to) {
      if (to != rank_) KVEC_RETURN_IF_ERROR(exchange_->Post(operation, rank_, to, mine));
    }
    for (int from = 0; from < size(); ++from) {
      const auto part = all.subspan(mine.size() * static_cast<size_t>(from), mine.size());
      if (from != rank_) {
        KVEC_RETURN_IF_ERROR(exchange_->Take(operation, from, rank_, part));
      } else if (!mine.empty()) {
        std::memmove(part.data(), mine.data(), mine.size());
      }
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<Exchange> exchange_;
  const int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeThreadCommunicators(
    int size, const ThreadCommOptions& options) {
  const auto exchange = std::make_shared<Exchange>(size, options);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int rank = 0; rank < size; ++rank) {
    communicators.push_back(std::make_unique<ThreadCommunicator>(exchange, rank));
  }
  return communicators;
}

std::vector<std::unique_ptr<GroupComm>> MakeThreadGroup(int num_stages, int num_ranks,
                                                        const ThreadCommOptions& options) {
  auto group = MakeThreadCommunicators(num_stages * num_ranks, options);
  std::vector<std::unique_ptr<GroupComm>> comms;
  for (int stage = 0; stage < num_stages; ++stage) {
    auto ranks = MakeThreadCommunicators(num_ranks, options);
    for (int rank = 0; rank < num_ranks; ++rank) {
      auto& comm = comms.emplace_back(std::make_unique<GroupComm>());
      comm->stage = stage;
      comm->num_stages = num_stages;
      comm->rank = rank;
      comm->num_ranks = num_ranks;
      comm->ranks = std::move(ranks[rank]);
      comm->group = std::move(group[comm->Index(stage, rank)]);
    }
  }
  return comms;
}

}  // namespace kvec::worker::comm
