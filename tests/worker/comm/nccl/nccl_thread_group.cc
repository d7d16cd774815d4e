#include "tests/worker/comm/nccl/nccl_thread_group.h"

#include <thread>
#include <utility>

#include "gtest/gtest.h"
#include "tests/worker/comm/thread_communicator.h"

namespace kvec::worker::comm::nccl {
namespace {

void RunThreads(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&body, i] {
      EXPECT_EQ(cudaSetDevice(i), cudaSuccess);
      body(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

Gpu::Gpu() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess); }

Gpu::~Gpu() {
  Synchronize();
  buffers_.clear();
  EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
}

void Gpu::Synchronize() { EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess); }

void* Gpu::UploadBytes(const void* from, size_t bytes) {
  auto buffer = kernels::cuda::CudaBuffer::Allocate(bytes);
  EXPECT_TRUE(buffer.ok()) << buffer.status();
  buffers_.push_back(*std::move(buffer));
  void* const to = buffers_.back()->data();
  EXPECT_EQ(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  return to;
}

void Gpu::DownloadBytes(const void* from, void* to, size_t bytes) {
  EXPECT_EQ(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  Synchronize();
}

NcclThreadGroup::NcclThreadGroup(const Options& options) {
  const int size = options.num_stages * options.num_ranks;
  cusim::Reset({.order = options.order, .num_devices = size});
  auto comms = MakeThreadGroup(options.num_stages, options.num_ranks);
  std::vector<Worker> workers(static_cast<size_t>(size));
  RunThreads(size, [&](int i) {
    Worker& worker = workers[static_cast<size_t>(i)];
    worker.gpu = std::make_unique<Gpu>();
    worker.device_comm = std::make_unique<NcclDeviceComm>(worker.gpu->stream());
    worker.comm = std::move(comms[static_cast<size_t>(i)]);
    const absl::Status status = worker.device_comm->Connect(options.timeouts, *worker.comm);
    EXPECT_TRUE(status.ok()) << status;
  });
  workers_ = std::move(workers);
}

NcclThreadGroup::~NcclThreadGroup() {
  for (Worker& worker : workers_) worker.comm->Abort();
  RunThreads(size(), [&](int i) {
    workers_[static_cast<size_t>(i)].comm.reset();
    workers_[static_cast<size_t>(i)].gpu.reset();
  });
}

void NcclThreadGroup::Run(const std::function<void(GroupComm&, Gpu&)>& body) {
  RunThreads(size(), [&](int i) { body(comm(i), gpu(i)); });
}

}  // namespace kvec::worker::comm::nccl
