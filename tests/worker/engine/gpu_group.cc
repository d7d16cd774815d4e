#include "tests/worker/engine/gpu_group.h"

#include <thread>
#include <utility>

#include "gtest/gtest.h"
#include "tests/worker/comm/thread_communicator.h"
#include "tests/worker/model/golden_file.h"
#include "worker/model/rank_peers.h"

namespace kvec::worker::engine {

GpuGroup::GpuGroup(Options options)
    : options_(std::move(options)), workers_(static_cast<size_t>(options_.shape.size())) {
  cusim::Options simulator = options_.simulator;
  simulator.num_devices = options_.shape.size();
  cusim::Reset(simulator);
  auto files = ModelFiles::Open(TinyModelFolder(options_.model));
  EXPECT_TRUE(files.ok()) << files.status();
  files_ = *std::move(files);
  ForEach([this](int index, Worker& worker) { MakeDevice(index, worker); });
  Form(absl::Seconds(60));
}

GpuGroup::~GpuGroup() {
  for (Worker& worker : workers_) worker.comm->Abort();
  ForEach([](int, Worker& worker) {
    worker.engine.reset();
    worker.comm.reset();
    worker.device.reset();
  });
}

const kernels::cuda::CudaDevice& GpuGroup::gpu(int worker) const {
  return static_cast<const kernels::cuda::CudaDevice&>(
      *workers_[static_cast<size_t>(worker)].device);
}

void GpuGroup::Form(absl::Duration timeout) {
  auto comms = comm::MakeThreadGroup(options_.shape.num_stages, options_.shape.num_ranks);
  ForEach([&](int index, Worker& worker) {
    if (worker.engine != nullptr) worker.engine->SetComm(nullptr);
    worker.comm = std::move(comms[static_cast<size_t>(index)]);
    worker.device_comm->Renew();
    const absl::Status connected = worker.device_comm->Connect(
        {.connect = absl::Seconds(60), .operation = timeout}, *worker.comm);
    ASSERT_TRUE(connected.ok()) << connected;
    if (worker.engine == nullptr) MakeEngine(worker);
    worker.engine->SetComm(worker.comm.get());
  });
}

std::vector<v1::StepResult> GpuGroup::Run(const v1::Step& step) {
  std::vector<v1::StepResult> results(workers_.size());
  ForEach([&](int index, Worker& worker) {
    auto result = worker.engine->Execute(step);
    EXPECT_TRUE(result.ok()) << "worker " << index << ": " << result.status();
    if (result.ok()) results[static_cast<size_t>(index)] = *std::move(result);
  });
  return results;
}

absl::Status GpuGroup::RunUntilPeerIsLost(const v1::Step& step) {
  absl::Status status;
  ForEach([&](int index, Worker& worker) {
    if (index == 0) {
      status = worker.engine->Execute(step).status();
    } else {
      const std::vector<int64_t> told(3);
      EXPECT_TRUE(model::RankPeers(*worker.comm).Exchange(told).ok());
    }
  });
  return status;
}

void GpuGroup::ForEach(const std::function<void(int, Worker&)>& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < options_.shape.size(); ++i) {
    threads.emplace_back([this, i, &body] {
      EXPECT_EQ(cudaSetDevice(i), cudaSuccess);
      body(i, workers_[static_cast<size_t>(i)]);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void GpuGroup::MakeDevice(int index, Worker& worker) {
  auto device =
      kernels::cuda::CudaDevice::Create({.index = index, .use_graphs = options_.use_graphs});
  ASSERT_TRUE(device.ok()) << device.status();
  worker.device_comm = std::make_unique<comm::nccl::NcclDeviceComm>((*device)->stream());
  worker.device = *std::move(device);
  if (options_.wrap != nullptr) worker.device = options_.wrap(std::move(worker.device));
}

void GpuGroup::MakeEngine(Worker& worker) {
  const int num_layers = config().num_layers;
  const int first = num_layers * worker.comm->stage / options_.shape.num_stages;
  const int end = num_layers * (worker.comm->stage + 1) / options_.shape.num_stages;
  auto engine = Engine::Create(*files_, *worker.device,
                               {.layers = {first, end - first},
                                .rank = worker.comm->rank,
                                .num_ranks = options_.shape.num_ranks,
                                .kv_bytes = 4 << 20,
                                .kv_type = kernels::KvType::kF16},
                               worker.progress);
  ASSERT_TRUE(engine.ok()) << engine.status();
  worker.engine = *std::move(engine);
  worker.engine->set_sentence_end_bits(std::string(64, '\x11'));
}

}  // namespace kvec::worker::engine
