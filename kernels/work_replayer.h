#ifndef KVEC_KERNELS_WORK_REPLAYER_H_
#define KVEC_KERNELS_WORK_REPLAYER_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace kvec::kernels {

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
  // the key; it uploads and downloads nothing, and is called or not.
  virtual absl::Status Run(const Key& key, absl::FunctionRef<absl::Status()> work) {
    return work();
  }
};

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_WORK_REPLAYER_H_
