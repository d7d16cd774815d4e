#ifndef KVEC_KERNELS_WORK_REPLAYER_H_
#define KVEC_KERNELS_WORK_REPLAYER_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace kvec::kernels {

// The devices that do work together, each its part, in which operations wait for the others' parts.
class WorkPeers {
 public:
  virtual ~WorkPeers() = default;

  // Numbers of every device, in an order that is the same on all; as many of each.
  virtual absl::StatusOr<std::vector<int64_t>> Exchange(absl::Span<const int64_t> mine) = 0;
  // Calls `launch`, which queues work that was taken down. Operations in it that wait for a device
  // that is lost end as others do; the error of one that is known to be lost, without a call.
  virtual absl::Status Launch(absl::FunctionRef<absl::Status()> launch) = 0;
};

// Gives a device work that comes again and again: the same operations over the same tensors and
// weights, so that a device may take them down once and do them again by itself. Made by
// Device::MakeReplayer for whoever owns the tensors, and gone before they are.
//
// This one takes nothing down.
class WorkReplayer {
 public:
  // What work depends on, beside the StepBatch that the device was told of last.
  struct Key {
    enum class Part { kLayers, kHead };
    Part part = Part::kLayers;
    int first_row = 0;
    int num_rows = 0;
  };

  virtual ~WorkReplayer() = default;

  // How many rows tensors should have for work on so many, so that few keys come up.
  virtual int PaddedRows(int num_rows) const { return num_rows; }

  // Does what `work` tells the device to do. All that it gives to operations depends on nothing but
  // the key; it uploads and downloads nothing, and is called or not. Of work that is done together
  // with `peers` (null: with none) all call Run with the same keys in the same order.
  virtual absl::Status Run(const Key& key, absl::FunctionRef<absl::Status()> work,
                           WorkPeers* peers) {
    return work();
  }

  // Drops what was taken down, as before peers are others.
  virtual void Forget() {}
};

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_WORK_REPLAYER_H_
