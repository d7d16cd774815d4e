#ifndef KVEC_KERNELS_HEAD_ROTATION_H_
#define KVEC_KERNELS_HEAD_ROTATION_H_

#include "common/model/model_config.h"
#include "kernels/tensor.h"

namespace kvec::kernels {

// What is done to query and key heads before attention: they are normed where there are weights,
// and turned by their row's angles.
struct HeadRotation {
  QkNorm norm;
  Tensor angles;  // [m, head_dim]: Device::RopeAngles
  RopePairing pairing = RopePairing::kHalves;
};

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_HEAD_ROTATION_H_
