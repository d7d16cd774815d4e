#include "tests/worker/comm/nccl/stand_in_nccl.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "tests/cusim/cusim.h"
#include "worker/comm/nccl/nccl_library.h"

namespace kvec::worker::comm::nccl {
namespace {

constexpr size_t kChunkBytes = size_t{64} << 10;
constexpr int kMaxRanks = 8;

enum class Operation : uint32_t { kNone, kAllReduce, kAllGather, kBroadcast };

// What a rank brings to the collective that is under way, a chunk at a time.
struct Slot {
  std::atomic<uint64_t> num_put;
  Operation operation;
  uint64_t bytes;  // of the whole operation
  uint8_t data[kChunkBytes];
};

// On its way from one rank to another.
struct Box {
  std::atomic<uint64_t> num_put;
  std::atomic<uint64_t> num_got;
  uint64_t bytes;  // of the whole message
  uint8_t data[kChunkBytes];
};

// Made of zeros.
struct Shared {
  std::atomic<int> num_joined;
  std::atomic<bool> has_failed;
  Slot slots[kMaxRanks];
  std::atomic<uint64_t> num_got[kMaxRanks][kMaxRanks];  // [reader, writer], of chunks in slots
  Box boxes[kMaxRanks][kMaxRanks];                      // [from, to]
};

std::atomic<int64_t> delay_ns = 0;

// One rank's end. Work on streams holds on to it.
struct State {
  State(Shared* memory, int its_rank, int its_size)
      : shared(memory), rank(its_rank), size(its_size) {}
  ~State() { munmap(shared, sizeof(Shared)); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  // Nobody waits any more, and nothing is moved.
  bool IsOver() const { return is_aborted || shared->has_failed; }

  Shared* const shared;
  const int rank;
  const int size;
  // What the stream has done so far: captured work is queued once and done at every launch.
  uint64_t num_chunks = 0;  // of collectives, put
  std::array<uint64_t, kMaxRanks> num_sent = {};
  std::array<uint64_t, kMaxRanks> num_received = {};
  std::atomic<int> num_in_graphs = 0;  // pieces of work that graphs hold
  std::atomic<bool> is_aborted = false;
  std::atomic<bool> is_connected = false;
};

std::mutex states_mutex;
std::vector<std::weak_ptr<State>> states;

using StatePointer = std::shared_ptr<State>;

// Lives as long as a graph has the work that holds it.
class InGraph {
 public:
  explicit InGraph(StatePointer state) : state_(std::move(state)) { ++state_->num_in_graphs; }
  ~InGraph() { --state_->num_in_graphs; }
  InGraph(const InGraph&) = delete;
  InGraph& operator=(const InGraph&) = delete;

 private:
  const StatePointer state_;
};

void Push(const StatePointer& state, cudaStream_t stream, std::function<void()> run,
          std::function<bool()> is_ready) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  (void)cudaStreamIsCapturing(stream, &status);
  std::shared_ptr<InGraph> in_graph;
  if (status != cudaStreamCaptureStatusNone) in_graph = std::make_shared<InGraph>(state);
  (void)cusim::PushWork(
      stream,
      [state, in_graph, run = std::move(run)] {
        if (!state->IsOver()) run();
      },
      [state, is_ready = std::move(is_ready)] { return state->IsOver() || is_ready(); });
}

// From when the stream comes to it.
void PushDelay(const StatePointer& state, cudaStream_t stream) {
  const absl::Duration delay = absl::Nanoseconds(delay_ns.load());
  const auto begin = std::make_shared<absl::Time>(absl::InfiniteFuture());
  Push(
      state, stream, [begin] { *begin = absl::InfiniteFuture(); },
      [begin, delay] {
        *begin = std::min(*begin, absl::Now());
        return absl::Now() >= *begin + delay;
      });
}

// Gives the others a chunk, when they have all taken the last one.
void PushPut(const StatePointer& state, cudaStream_t stream, Operation operation, uint64_t bytes,
             const uint8_t* chunk, size_t chunk_bytes) {
  Push(
      state, stream,
      [=] {
        Slot& slot = state->shared->slots[state->rank];
        slot.operation = operation;
        slot.bytes = bytes;
        std::copy_n(chunk, chunk_bytes, slot.data);
        slot.num_put = ++state->num_chunks;
      },
      [=] {
        for (int reader = 0; reader < state->size; ++reader) {
          if (state->shared->num_got[reader][state->rank] < state->num_chunks) return false;
        }
        return true;
      });
}

// Takes what every rank has put: `take` is called with each one's chunk, in rank order.
void PushGet(const StatePointer& state, cudaStream_t stream, Operation operation, uint64_t bytes,
             std::function<void(int, const uint8_t*)> take) {
  Push(
      state, stream,
      [=, take = std::move(take)] {
        Shared& shared = *state->shared;
        for (int rank = 0; rank < state->size; ++rank) {
          const Slot& slot = shared.slots[rank];
          if (slot.operation != operation || slot.bytes != bytes) {
            shared.has_failed = true;  // the ranks do not agree what they do
            return;
          }
          take(rank, slot.data);
        }
        for (int rank = 0; rank < state->size; ++rank) {
          shared.num_got[state->rank][rank] = state->num_chunks;
        }
      },
      [=] {
        for (int rank = 0; rank < state->size; ++rank) {
          if (state->shared->slots[rank].num_put < state->num_chunks) return false;
        }
        return true;
      });
}

ncclResult_t GetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> num_ids = 0;
  *id = ncclUniqueId{};
  std::snprintf(id->internal, sizeof(id->internal), "/kvec-nccl-%d-%d", getpid(), ++num_ids);
  return ncclSuccess;
}

}  // namespace
}  // namespace kvec::worker::comm::nccl

// The type that nccl.h leaves to the library.
struct ncclComm {
  kvec::worker::comm::nccl::StatePointer state;
  std::string name;
};

namespace kvec::worker::comm::nccl {
namespace {

ncclResult_t InitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (size < 1 || size > kMaxRanks || rank < 0 || rank >= size || config->blocking != 0) {
    return ncclInvalidArgument;
  }
  const int file = shm_open(id.internal, O_CREAT | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) return ncclSystemError;
  void* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return ncclSystemError;
  auto state = std::make_shared<State>(static_cast<Shared*>(memory), rank, size);
  ++state->shared->num_joined;
  const std::lock_guard<std::mutex> lock(states_mutex);
  states.push_back(state);
  *comm = new ncclComm{std::move(state), id.internal};
  return ncclInProgress;
}

// As the real one: what runs on the device quits, and then graphs have to be gone.
ncclResult_t Abort(ncclComm_t comm) {
  comm->state->is_aborted = true;
  shm_unlink(comm->name.c_str());
  while (comm->state->num_in_graphs > 0) absl::SleepFor(absl::Milliseconds(1));
  delete comm;
  return ncclSuccess;
}

ncclResult_t GetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  State& state = *comm->state;
  if (!state.is_connected && state.shared->num_joined == state.size) {
    state.is_connected = true;
    shm_unlink(comm->name.c_str());  // all have it mapped; another's attempt finds it gone
  }
  *error = state.shared->has_failed ? ncclRemoteError
           : state.is_connected     ? ncclSuccess
                                    : ncclInProgress;
  return ncclSuccess;
}

ncclResult_t AllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                       ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclFloat32 || operation != ncclSum) return ncclInvalidArgument;
  const StatePointer& state = comm->state;
  const size_t bytes = count * sizeof(float);
  PushDelay(state, stream);
  for (size_t begin = 0; begin < bytes; begin += kChunkBytes) {
    const size_t chunk = std::min(kChunkBytes, bytes - begin);
    PushPut(state, stream, Operation::kAllReduce, bytes, static_cast<const uint8_t*>(from) + begin,
            chunk);
    auto* const sum = reinterpret_cast<float*>(static_cast<uint8_t*>(to) + begin);
    PushGet(state, stream, Operation::kAllReduce, bytes, [=](int rank, const uint8_t* data) {
      const auto* const part = reinterpret_cast<const float*>(data);
      for (size_t i = 0; i < chunk / sizeof(float); ++i) {
        sum[i] = rank == 0 ? part[i] : sum[i] + part[i];
      }
    });
  }
  return ncclInProgress;
}

ncclResult_t AllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                       ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclUint8) return ncclInvalidArgument;
  PushDelay(comm->state, stream);
  for (size_t begin = 0; begin < count; begin += kChunkBytes) {
    const size_t chunk = std::min(kChunkBytes, count - begin);
    PushPut(comm->state, stream, Operation::kAllGather, count,
            static_cast<const uint8_t*>(from) + begin, chunk);
    auto* const all = static_cast<uint8_t*>(to) + begin;
    PushGet(comm->state, stream, Operation::kAllGather, count, [=](int rank, const uint8_t* data) {
      std::copy_n(data, chunk, all + count * static_cast<size_t>(rank));
    });
  }
  return ncclInProgress;
}

ncclResult_t Broadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                       ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclUint8 || root < 0 || root >= comm->state->size) return ncclInvalidArgument;
  PushDelay(comm->state, stream);
  for (size_t begin = 0; begin < count; begin += kChunkBytes) {
    const size_t chunk = std::min(kChunkBytes, count - begin);
    // Of the others nothing is read, but that they are there.
    PushPut(comm->state, stream, Operation::kBroadcast, count,
            static_cast<const uint8_t*>(from) + begin, comm->state->rank == root ? chunk : 0);
    auto* const data = static_cast<uint8_t*>(to) + begin;
    PushGet(comm->state, stream, Operation::kBroadcast, count, [=](int rank, const uint8_t* part) {
      if (rank == root) std::copy_n(part, chunk, data);
    });
  }
  return ncclInProgress;
}

ncclResult_t Send(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                  cudaStream_t stream) {
  const StatePointer& state = comm->state;
  if (type != ncclUint8 || peer < 0 || peer >= state->size) return ncclInvalidArgument;
  PushDelay(state, stream);
  Box& box = state->shared->boxes[state->rank][peer];
  for (size_t begin = 0; begin < count; begin += kChunkBytes) {
    const size_t chunk = std::min(kChunkBytes, count - begin);
    uint64_t& num_sent = state->num_sent[static_cast<size_t>(peer)];
    const auto* const data = static_cast<const uint8_t*>(from) + begin;
    Push(
        state, stream,
        [=, &box, &num_sent] {
          box.bytes = count;
          std::copy_n(data, chunk, box.data);
          box.num_put = ++num_sent;
        },
        [&box, &num_sent] { return box.num_got == num_sent; });
    Push(
        state, stream, [] {}, [&box, &num_sent] { return box.num_got >= num_sent; });
  }
  return ncclInProgress;
}

ncclResult_t Receive(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                     cudaStream_t stream) {
  const StatePointer& state = comm->state;
  if (type != ncclUint8 || peer < 0 || peer >= state->size) return ncclInvalidArgument;
  PushDelay(state, stream);
  Box& box = state->shared->boxes[peer][state->rank];
  for (size_t begin = 0; begin < count; begin += kChunkBytes) {
    const size_t chunk = std::min(kChunkBytes, count - begin);
    uint64_t& num_received = state->num_received[static_cast<size_t>(peer)];
    auto* const data = static_cast<uint8_t*>(to) + begin;
    Push(
        state, stream,
        [=, &box, &num_received] {
          if (box.bytes != count) {
            state->shared->has_failed = true;
            return;
          }
          std::copy_n(box.data, chunk, data);
          box.num_got = ++num_received;
        },
        [&box, &num_received] { return box.num_put > num_received; });
  }
  return ncclInProgress;
}

const char* GetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclInProgress:
      return "in progress";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInvalidArgument:
      return "invalid argument";
    default:
      return "another error";
  }
}

}  // namespace

absl::StatusOr<const NcclLibrary*> NcclLibrary::Open() {
  static const NcclLibrary library = {.get_unique_id = GetUniqueId,
                                      .init_rank = InitRank,
                                      .abort = Abort,
                                      .get_async_error = GetAsyncError,
                                      .all_reduce = AllReduce,
                                      .all_gather = AllGather,
                                      .broadcast = Broadcast,
                                      .send = Send,
                                      .receive = Receive,
                                      .get_error_string = GetErrorString};
  return &library;
}

void SetNcclDelay(absl::Duration delay) { delay_ns = absl::ToInt64Nanoseconds(delay); }

void FailNcclNetwork() {
  const std::lock_guard<std::mutex> lock(states_mutex);
  for (const auto& weak : states) {
    if (const auto state = weak.lock()) state->shared->has_failed = true;
  }
}

int NumNcclCommunicators() {
  const std::lock_guard<std::mutex> lock(states_mutex);
  return static_cast<int>(std::count_if(states.begin(), states.end(), [](const auto& weak) {
    const auto state = weak.lock();
    return state != nullptr && !state->is_aborted;
  }));
}

}  // namespace kvec::worker::comm::nccl
