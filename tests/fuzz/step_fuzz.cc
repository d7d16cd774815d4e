// What a coordinator sends on Cluster.Attach, as a worker carries it out: a series of
// CoordinatorMessages, each with its length before it, for an engine over a tiny model. The
// worker's own part, beside this, is the stream.
#include <memory>

#include "common/logging.h"
#include "common/model/model_files.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/util/delimited_message_util.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/worker/model/golden_file.h"
#include "worker/engine/engine.h"

namespace {

using kvec::worker::engine::Engine;

class FuzzedWorker {
 public:
  FuzzedWorker()
      : files_(*kvec::ModelFiles::Open(kvec::TinyModelFolder("gemma3"))),
        device_(*kvec::kernels::cpu::CpuDevice::Create({.num_threads = 1})),
        engine_(*MakeEngine({0, files_->config().num_layers})) {}

  void Reset() { engine_->Reset(); }

  void Handle(const kvec::v1::CoordinatorMessage& message) {
    if (message.has_step()) engine_->Execute(message.step()).IgnoreError();
    if (message.has_form_group()) {
      const kvec::v1::Placement& placement = message.form_group().placement();
      MakeEngine(
          {static_cast<int>(placement.first_layer()), static_cast<int>(placement.num_layers())})
          .IgnoreError();
      engine_->set_sentence_end_bits(message.form_group().sentence_end_bits());
    }
  }

 private:
  absl::StatusOr<std::unique_ptr<Engine>> MakeEngine(kvec::worker::model::LayerRange layers) {
    return Engine::Create(*files_, *device_,
                          {.layers = layers, .max_step_tokens = 64, .kv_bytes = 1 << 20},
                          progress_);
  }

  const std::unique_ptr<kvec::ModelFiles> files_;
  const std::unique_ptr<kvec::kernels::cpu::CpuDevice> device_;
  kvec::worker::engine::Progress progress_;
  const std::unique_ptr<Engine> engine_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const worker = new FuzzedWorker;
  worker->Reset();
  google::protobuf::io::ArrayInputStream input(data, static_cast<int>(size));
  kvec::v1::CoordinatorMessage message;
  bool clean_eof = false;
  while (google::protobuf::util::ParseDelimitedFromZeroCopyStream(&message, &input, &clean_eof)) {
    worker->Handle(message);
  }
  return 0;
}
