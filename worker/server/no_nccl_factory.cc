#include "worker/server/nccl_factory.h"

namespace kvec::worker::server {
namespace {

class NoNcclComm final : public comm::DeviceComm {
 public:
  absl::Status Connect(const Timeouts& timeouts, comm::GroupComm& comm) override {
    return absl::FailedPreconditionError(
        "a group of GPUs needs NCCL: this kvec-worker was built where no nccl.h was found; "
        "PyPI's nvidia-nccl-cu13 has one");
  }
  void Abort() override {}
  void Renew() override {}
  bool is_waiting() const override { return false; }
};

}  // namespace

std::unique_ptr<comm::DeviceComm> MakeNcclComm(cudaStream_t stream) {
  return std::make_unique<NoNcclComm>();
}

}  // namespace kvec::worker::server
