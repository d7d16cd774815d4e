#ifndef KVEC_TESTS_WORKER_COMM_NCCL_NCCL_THREAD_GROUP_H_
#define KVEC_TESTS_WORKER_COMM_NCCL_NCCL_THREAD_GROUP_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "kernels/cuda/cuda_buffer.h"
#include "tests/cusim/cusim.h"
#include "worker/comm/group_comm.h"
#include "worker/comm/nccl/nccl_device_comm.h"

namespace kvec::worker::comm::nccl {

// A worker's GPU, used by its thread.
class Gpu {
 public:
  Gpu();
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  cudaStream_t stream() const { return stream_; }

  // Queued; the copy lives as long as the GPU.
  template <typename T>
  T* Upload(const std::vector<T>& values) {
    return static_cast<T*>(UploadBytes(values.data(), values.size() * sizeof(T)));
  }
  // Waits.
  template <typename T>
  std::vector<T> Download(const T* from, size_t count) {
    std::vector<T> values(count);
    DownloadBytes(from, values.data(), count * sizeof(T));
    return values;
  }
  void Synchronize();

 private:
  void* UploadBytes(const void* from, size_t bytes);
  void DownloadBytes(const void* from, void* to, size_t bytes);

  cudaStream_t stream_ = nullptr;
  std::vector<std::unique_ptr<kernels::cuda::CudaBuffer>> buffers_;
};

// The workers of a group as threads of the test, each with a simulated GPU. Their hosts'
// communicator is a test's.
class NcclThreadGroup {
 public:
  struct Options {
    int num_stages = 1;
    int num_ranks = 1;
    cusim::Order order = cusim::Order::kForward;
    DeviceComm::Timeouts timeouts = {.connect = absl::Seconds(60), .operation = absl::Seconds(60)};
  };

  // Connects them, or fails the test.
  explicit NcclThreadGroup(const Options& options);
  ~NcclThreadGroup();

  // Runs `body` once per worker, each in a thread of its own, and waits for all.
  void Run(const std::function<void(GroupComm&, Gpu&)>& body);

  int size() const { return static_cast<int>(workers_.size()); }
  NcclDeviceComm& device_comm(int index) { return *workers_[index].device_comm; }
  GroupComm& comm(int index) { return *workers_[index].comm; }
  Gpu& gpu(int index) { return *workers_[index].gpu; }

 private:
  struct Worker {
    std::unique_ptr<Gpu> gpu;
    std::unique_ptr<NcclDeviceComm> device_comm;
    std::unique_ptr<GroupComm> comm;
  };
  std::vector<Worker> workers_;
};

}  // namespace kvec::worker::comm::nccl

#endif  // KVEC_TESTS_WORKER_COMM_NCCL_NCCL_THREAD_GROUP_H_
