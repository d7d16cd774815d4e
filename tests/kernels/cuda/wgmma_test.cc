// Where matrices lie for products of a warpgroup, and which GPUs take such products.

#include <memory>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_kv_arena.h"
#include "kernels/cuda/swizzled_matrix.h"
#include "tests/cusim/cusim.h"
#include "tests/cusim/matrix_descriptor.h"

namespace kvec::kernels::cuda {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Tile = SwizzledMatrix<128, 128>;

// By hand: 128 bytes a row, 8 vectors of 16 bytes in it, 128 · 128 bytes for 64 columns.
TEST(SwizzledMatrixTest, ExchangesVectorsByTheirRow) {
  EXPECT_EQ(Tile::Offset(0, 0), 0);
  EXPECT_EQ(Tile::Offset(0, 7), 112);
  EXPECT_EQ(Tile::Offset(1, 0), 128 + 16);
  EXPECT_EQ(Tile::Offset(7, 7), 7 * 128);
  EXPECT_EQ(Tile::Offset(9, 3), 1152 + 2 * 16);
  EXPECT_EQ(Tile::Offset(5, 15), 16384 + 640 + 2 * 16);
  EXPECT_EQ(Tile::kBytes, 32768);
}

TEST(SwizzledMatrixTest, DescriptorsHaveTheManualsBits) {
  // Columns 80 …: 16 behind the first 64; row 64 is 8,192 bytes down.
  EXPECT_EQ(Tile::AlongRows(9216, 64, 80), uint64_t{(9216 + 16384 + 8192 + 32) / 16} |
                                               uint64_t{1024 / 16} << 32 | uint64_t{1} << 62);
  EXPECT_EQ(Tile::AcrossRows(9216, 32), uint64_t{(9216 + 4096) / 16} | uint64_t{16384 / 16} << 16 |
                                            uint64_t{1024 / 16} << 32 | uint64_t{1} << 62);
}

// What the simulator's decoder, which knows the manual only, makes of them.
TEST(SwizzledMatrixTest, DescriptorsFindEveryNumber) {
  constexpr uint32_t kAddress = 5 * 1024;
  const auto address_of = [](int row, int col) {
    return kAddress + static_cast<uint32_t>(Tile::Offset(row, col / 8) + col % 8 * 2);
  };
  for (int first_row : {0, 64}) {
    for (int first_col = 0; first_col < 128; first_col += kDepth) {
      const cusim::MatrixDescriptor matrix(Tile::AlongRows(kAddress, first_row, first_col));
      for (uint32_t row = 0; row < 64; ++row) {
        for (uint32_t col = 0; col < kDepth; ++col) {
          ASSERT_EQ(
              matrix.AddressOf(/*along_k=*/true, row, col),
              address_of(first_row + static_cast<int>(row), first_col + static_cast<int>(col)));
        }
      }
    }
  }
  for (int first_row = 0; first_row < 128; first_row += kDepth) {
    const cusim::MatrixDescriptor matrix(Tile::AcrossRows(kAddress, first_row));
    for (uint32_t row = 0; row < kDepth; ++row) {
      for (uint32_t col = 0; col < 128; ++col) {
        ASSERT_EQ(matrix.AddressOf(/*along_k=*/false, col, row),
                  address_of(first_row + static_cast<int>(row), static_cast<int>(col)));
      }
    }
  }
}

class Warnings : public google::LogSink {
 public:
  Warnings() { google::AddLogSink(this); }
  ~Warnings() override { google::RemoveLogSink(this); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;

  void send(google::LogSeverity severity, const char*, const char*, int,
            const google::LogMessageTime&, const char* message, size_t length) override {
    if (severity == google::GLOG_WARNING) texts_.emplace_back(message, length);
  }
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  std::vector<std::string> texts_;
};

// Whether the device takes wgmma for such an arena.
bool Takes(CudaDevice& device, KvType type, int head_dim) {
  const auto arena = device.AllocateKvArena({.head_dim = head_dim, .type = type, .num_pages = 1});
  EXPECT_TRUE(arena.ok()) << arena.status();
  return static_cast<const CudaKvArena&>(**arena).use_wgmma();
}

std::unique_ptr<CudaDevice> Make(const cusim::Options& simulated,
                                 const CudaDevice::Options& options = {}) {
  cusim::Reset(simulated);
  auto device = CudaDevice::Create(options);
  EXPECT_TRUE(device.ok()) << device.status();
  return *std::move(device);
}

TEST(WgmmaTest, IsTakenWhereItGivesWhatMmaSyncGives) {
  const Warnings warnings;
  const auto device = Make({.compute_capability = 90});
  for (const KvType type : {KvType::kBF16, KvType::kF16}) {
    for (const int head_dim : {64, 128}) EXPECT_TRUE(Takes(*device, type, head_dim));
  }
  EXPECT_FALSE(Takes(*device, KvType::kBF16, 80));
  EXPECT_FALSE(Takes(*device, KvType::kF32, 64));
  EXPECT_FALSE(Takes(*device, KvType::kInt8, 128));
  EXPECT_THAT(warnings.texts(), ElementsAre());
}

TEST(WgmmaTest, IsNotTakenWhereItGivesSomethingElse) {
  const Warnings warnings;
  const auto device = Make({.compute_capability = 90, .negates_products = true});
  EXPECT_FALSE(Takes(*device, KvType::kBF16, 128));
  EXPECT_THAT(warnings.texts(), ElementsAre(AllOf(HasSubstr("no prefill attention by wgmma"),
                                                  HasSubstr("by mma.sync it is"))));
}

TEST(WgmmaTest, IsNotTakenOnOtherGpusOrAgainstOrders) {
  for (const int capability : {80, 89, 100}) {
    const auto device = Make({.compute_capability = capability});
    EXPECT_FALSE(Takes(*device, KvType::kBF16, 128)) << capability;
  }
  const auto device = Make({.compute_capability = 90}, {.use_wgmma = false});
  EXPECT_FALSE(Takes(*device, KvType::kBF16, 128));
}

}  // namespace
}  // namespace kvec::kernels::cuda
