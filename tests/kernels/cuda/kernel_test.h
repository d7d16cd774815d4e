#ifndef KVEC_TESTS_KERNELS_CUDA_KERNEL_TEST_H_
#define KVEC_TESTS_KERNELS_CUDA_KERNEL_TEST_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/tensor.h"
#include "tests/cusim/cusim.h"
#include "tests/kernels/cpu/random_matrix.h"

namespace kvec::kernels::cuda {

using cpu::Matrix;

// A test of kernels that runs once per order of threads, blocks and streams. For use with
// INSTANTIATE_TEST_SUITE_P(Orders, …Test, kAllOrders, OrderName).
class KernelTest : public ::testing::TestWithParam<cusim::Options> {
 protected:
  void SetUp() override {
    cusim::Reset(GetParam());
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }

  cudaStream_t stream_ = nullptr;
};

// ThreadSanitizer looks at what orders accesses, not at the order in which they happen.
inline std::vector<cusim::Options> OrdersAt(int compute_capability) {
#ifdef __SANITIZE_THREAD__
  std::vector<cusim::Options> orders = {{}};
#else
  std::vector<cusim::Options> orders = {{.order = cusim::Order::kForward},
                                        {.order = cusim::Order::kReverse},
                                        {.order = cusim::Order::kRandom, .seed = 1},
                                        {.order = cusim::Order::kRandom, .seed = 2}};
#endif
  for (cusim::Options& options : orders) options.compute_capability = compute_capability;
  return orders;
}
inline const auto kAllOrders = ::testing::ValuesIn(OrdersAt(90));

inline std::string OrderName(const ::testing::TestParamInfo<cusim::Options>& info) {
  switch (info.param.order) {
    case cusim::Order::kForward:
      return "Forward";
    case cusim::Order::kReverse:
      return "Reverse";
    case cusim::Order::kRandom:
      return "Random" + std::to_string(info.param.seed);
  }
  return "";
}

// An array in the device's memory.
template <typename T>
class DeviceArray {
 public:
  DeviceArray(size_t size, cudaStream_t stream) : size_(size), stream_(stream) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data_), size * sizeof(T)), cudaSuccess);
  }
  DeviceArray(const std::vector<T>& values, cudaStream_t stream)
      : DeviceArray(values.size(), stream) {
    EXPECT_EQ(
        cudaMemcpyAsync(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice, stream),
        cudaSuccess);
  }
  ~DeviceArray() { EXPECT_EQ(cudaFree(data_), cudaSuccess) << cusim::FaultMessage(); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  size_t size() const { return size_; }

  // Waits for the stream.
  std::vector<T> ToHost() const {
    std::vector<T> values(size_);
    EXPECT_EQ(
        cudaMemcpyAsync(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost, stream_),
        cudaSuccess)
        << cusim::FaultMessage();
    return values;
  }

 private:
  T* data_ = nullptr;
  const size_t size_;
  const cudaStream_t stream_;
};

// A copy of a Matrix, gaps included, in the device's memory.
class DeviceMatrix {
 public:
  DeviceMatrix(const Matrix& matrix, cudaStream_t stream)
      : host_(matrix), array_(host_.tensor().stride * static_cast<size_t>(host_.rows()), stream) {
    EXPECT_EQ(cudaMemcpyAsync(array_.data(), host_.tensor().data, bytes(), cudaMemcpyHostToDevice,
                              stream),
              cudaSuccess);
  }

  Tensor tensor() {
    Tensor tensor = host_.tensor();
    tensor.data = array_.data();
    return tensor;
  }

  // Waits for the stream.
  Matrix ToHost() {
    const std::vector<float> values = array_.ToHost();
    std::copy(values.begin(), values.end(), host_.tensor().data);
    return host_;
  }

 private:
  size_t bytes() const { return array_.size() * sizeof(float); }

  Matrix host_;
  DeviceArray<float> array_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_TESTS_KERNELS_CUDA_KERNEL_TEST_H_
