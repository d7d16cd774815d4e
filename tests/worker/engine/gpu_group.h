#ifndef KVEC_TESTS_WORKER_ENGINE_GPU_GROUP_H_
#define KVEC_TESTS_WORKER_ENGINE_GPU_GROUP_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/model_files.h"
#include "kernels/cuda/cuda_device.h"
#include "kvec/v1/cluster.pb.h"
#include "tests/cusim/cusim.h"
#include "tests/worker/engine/group_harness.h"
#include "worker/comm/nccl/nccl_device_comm.h"
#include "worker/engine/engine.h"

namespace kvec::worker::engine {

// A group of engines over a tiny model with a simulated GPU each, whose tensors go over NCCL's
// stand-in, and a thread of their own while they do something.
class GpuGroup {
 public:
  struct Options {
    std::string model;
    GroupShape shape;
    cusim::Options simulator = {};  // of as many devices as there are engines
    bool use_graphs = true;
    // What engines use in place of their GPU, if not null.
    std::function<std::unique_ptr<kernels::Device>(std::unique_ptr<kernels::Device>)> wrap =
        nullptr;
  };

  explicit GpuGroup(Options options);
  ~GpuGroup();
  GpuGroup(const GpuGroup&) = delete;
  GpuGroup& operator=(const GpuGroup&) = delete;

  const ModelConfig& config() const { return files_->config(); }
  const GroupShape& shape() const { return options_.shape; }
  // Of a worker, stage-major. For groups that do not wrap them.
  const kernels::cuda::CudaDevice& gpu(int worker) const;

  // Gives the engines communicators whose operations take no longer than this.
  void Form(absl::Duration timeout);

  // The workers' results, stage-major; fails the test when one is an error.
  std::vector<v1::StepResult> Run(const v1::Step& step);
  // Rank 0's status when it carries the Step out, of generated tokens, and rank 1 does no more than
  // to exchange what it would do; of two ranks.
  absl::Status RunUntilPeerIsLost(const v1::Step& step);

 private:
  struct Worker {
    std::unique_ptr<comm::GroupComm> comm;
    std::unique_ptr<kernels::Device> device;
    std::unique_ptr<comm::nccl::NcclDeviceComm> device_comm;
    Progress progress;
    std::unique_ptr<Engine> engine;
  };

  void ForEach(const std::function<void(int, Worker&)>& body);
  void MakeDevice(int index, Worker& worker);
  void MakeEngine(Worker& worker);

  const Options options_;
  std::unique_ptr<ModelFiles> files_;
  std::vector<Worker> workers_;
};

}  // namespace kvec::worker::engine

#endif  // KVEC_TESTS_WORKER_ENGINE_GPU_GROUP_H_
