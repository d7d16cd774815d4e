#ifndef KVEC_WORKER_COMM_COMMUNICATOR_H_
#define KVEC_WORKER_COMM_COMMUNICATOR_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/tensor.h"

namespace kvec::worker::comm {

// Collectives and messages between the workers of a group, ranks 0 … size() - 1. Every rank calls
// the same operations in the same order, from its engine's thread; only Abort may come from
// another.
//
// Data is the host's memory, and an operation returns when it is done; or, of a communicator over a
// device's tensors, it is the device's, and operations are queued there like the device's own.
//
// An operation that misses its deadline is DEADLINE_EXCEEDED, one that was aborted or whose peer is
// gone UNAVAILABLE; the group is then to be formed anew, and this communicator only to be
// destroyed.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // x[m, n] = sum over the ranks: every rank has the same bits. In rank order, or, on a device, in
  // one that the group's shape fixes.
  virtual absl::Status AllReduceSum(kernels::Tensor x) = 0;

  // all[size() · n] = mine[n] of every rank, in rank order; n alike on all ranks. `mine` may lie in
  // its place in `all`.
  virtual absl::Status AllGather(absl::Span<const uint8_t> mine, absl::Span<uint8_t> all) = 0;

  // data[n] = the root's.
  virtual absl::Status Broadcast(int root, absl::Span<uint8_t> data) = 0;

  // Between two ranks messages arrive in order; both must name the same size. Send may return
  // before the peer has received, but `data` is free again.
  virtual absl::Status Send(int to, absl::Span<const uint8_t> data) = 0;
  virtual absl::Status Receive(int from, absl::Span<uint8_t> data) = 0;

  // Calls `launch`, which has a device do anew what it took down of operations that were queued:
  // they end as others do. The error of a communicator that has failed, without a call.
  virtual absl::Status Launch(absl::FunctionRef<absl::Status()> launch) { return launch(); }

  // After Device::Synchronize: whether every operation so far was carried out. Those that are not
  // queued have told so themselves.
  virtual absl::Status Completed() { return absl::OkStatus(); }

  // Ends the operation that runs, and all later ones, with UNAVAILABLE. Any thread.
  virtual void Abort() = 0;
};

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_COMMUNICATOR_H_
