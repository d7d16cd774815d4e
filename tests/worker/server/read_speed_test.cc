// How fast a device reads weights: a number that the clock confirms.

#include "worker/server/read_speed.h"

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"

namespace kvec::worker::server {
namespace {

constexpr char kModel[] = KVEC_SOURCE_DIR "/tests/worker/model/tiny/llama";

TEST(ReadSpeedTest, IsNoMoreThanTheTimeAllows) {
  const auto files = ModelFiles::Open(kModel);
  ASSERT_TRUE(files.ok()) << files.status();
  const auto device = kernels::cpu::CpuDevice::Create({.num_threads = 1});
  ASSERT_TRUE(device.ok()) << device.status();
  const auto tensor = (*files)->FindTensor("blk.0.ffn_down.weight");
  ASSERT_TRUE(tensor.ok());
  const absl::Time begin = absl::Now();
  const absl::StatusOr<uint64_t> speed = MeasureReadSpeed(**files, **device);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  ASSERT_TRUE(speed.ok()) << speed.status();
  // At least two products were made in that time, and no processor reads a terabyte a second.
  EXPECT_GE(static_cast<double>(*speed), 2 * static_cast<double>(tensor->data.size()) / seconds);
  EXPECT_LT(*speed, 1'000'000'000'000);
}

}  // namespace
}  // namespace kvec::worker::server
