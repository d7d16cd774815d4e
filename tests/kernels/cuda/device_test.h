#ifndef KVEC_TESTS_KERNELS_CUDA_DEVICE_TEST_H_
#define KVEC_TESTS_KERNELS_CUDA_DEVICE_TEST_H_

#include <memory>
#include <utility>

#include "kernels/cuda/cuda_device.h"
#include "tests/kernels/cuda/kernel_test.h"

namespace kvec::kernels::cuda {

// A KernelTest with a whole device.
class DeviceTest : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    auto device = CudaDevice::Create({});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
  }

  std::unique_ptr<CudaDevice> device_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_TESTS_KERNELS_CUDA_DEVICE_TEST_H_
