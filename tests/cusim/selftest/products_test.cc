// Products of a warpgroup: where their operands lie, and what the simulator says of mistakes.

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cusim/cusim.h"
#include "tests/cusim/matrix_descriptor.h"
#include "tests/cusim/selftest/product_bugs.h"

namespace kvec::cusim {
namespace {

using ::testing::HasSubstr;

constexpr bool kAlongK = true;
constexpr bool kAlongMn = false;

// Offsets and the address in bytes; mode 1: 128 bytes, 2: 64, 3: 32.
MatrixDescriptor Describe(uint64_t address, uint64_t leading, uint64_t stride, uint64_t mode,
                          uint64_t base = 0) {
  return MatrixDescriptor(address / 16 | leading / 16 << 16 | stride / 16 << 32 | base << 49 |
                          mode << 62);
}

// Worked by hand, after the PTX manual's figures.
TEST(MatrixDescriptorTest, ReadsItsBits) {
  const MatrixDescriptor matrix(0xC00E'0040'0400'0123);
  EXPECT_EQ(matrix.address(), 0x1230u);
  EXPECT_EQ(matrix.leading_bytes(), 0x4000u);
  EXPECT_EQ(matrix.stride_bytes(), 0x400u);
  EXPECT_EQ(matrix.base_offset(), 7u);
  EXPECT_EQ(matrix.swizzle_bytes(), 32u);
  EXPECT_FALSE(matrix.has_unknown_bits());
  EXPECT_TRUE(MatrixDescriptor(uint64_t{1} << 15).has_unknown_bits());
  EXPECT_TRUE(MatrixDescriptor(uint64_t{1} << 61).has_unknown_bits());
}

TEST(MatrixDescriptorTest, KMajorIn128ByteSwizzle) {
  const MatrixDescriptor matrix = Describe(2048, 0, 1024, 1);
  EXPECT_EQ(matrix.AddressOf(kAlongK, 0, 0), 2048u);
  EXPECT_EQ(matrix.AddressOf(kAlongK, 0, 9), 2048u + 18);
  EXPECT_EQ(matrix.AddressOf(kAlongK, 1, 0), 2048u + 128 + 16);        // unit 0 of row 1 is in 1
  EXPECT_EQ(matrix.AddressOf(kAlongK, 1, 8), 2048u + 128);             // and 1 in 0
  EXPECT_EQ(matrix.AddressOf(kAlongK, 7, 15), 2048u + 896 + 96 + 14);  // 1 of row 7 in 6
  EXPECT_EQ(matrix.AddressOf(kAlongK, 10, 3), 2048u + 1024 + 256 + 32 + 6);
  // 32 columns further: unit 4 of row 3 is in 7.
  EXPECT_EQ(Describe(2048 + 64, 0, 1024, 1).AddressOf(kAlongK, 3, 1), 2048u + 384 + 112 + 2);
}

TEST(MatrixDescriptorTest, MnMajorIn128ByteSwizzle) {
  const MatrixDescriptor matrix = Describe(2048, 16384, 1024, 1);
  EXPECT_EQ(matrix.AddressOf(kAlongMn, 9, 0), 2048u + 18);
  EXPECT_EQ(matrix.AddressOf(kAlongMn, 0, 3), 2048u + 384 + 48);
  EXPECT_EQ(matrix.AddressOf(kAlongMn, 63, 8), 2048u + 1024 + 126);
  EXPECT_EQ(matrix.AddressOf(kAlongMn, 64, 15), 2048u + 16384 + 1024 + 896 + 112);
}

TEST(MatrixDescriptorTest, SmallerSwizzlesExchangeLess) {
  // 64 bytes: two rows in each 128, of which the last two bits exchange four units.
  const MatrixDescriptor by_64 = Describe(512, 0, 512, 2);
  EXPECT_EQ(by_64.AddressOf(kAlongK, 1, 0), 512u + 64);
  EXPECT_EQ(by_64.AddressOf(kAlongK, 2, 0), 512u + 128 + 16);
  EXPECT_EQ(by_64.AddressOf(kAlongK, 7, 8), 512u + 448 + 32);
  EXPECT_EQ(by_64.AddressOf(kAlongK, 8, 0), 512u + 512);
  // 32 bytes: four rows in each 128, of which the last bit exchanges two units.
  const MatrixDescriptor by_32 = Describe(256, 4096, 256, 3);
  EXPECT_EQ(by_32.AddressOf(kAlongMn, 0, 3), 256u + 96);
  EXPECT_EQ(by_32.AddressOf(kAlongMn, 8, 4), 256u + 128);
  EXPECT_EQ(by_32.AddressOf(kAlongMn, 16, 9), 256u + 4096 + 256 + 32);
}

TEST(MatrixDescriptorTest, WithoutSwizzleOffsetsAreOfUnits) {
  const MatrixDescriptor matrix = Describe(4096, 128, 256, 0);
  EXPECT_EQ(matrix.AddressOf(kAlongK, 1, 2), 4096u + 16 + 4);
  EXPECT_EQ(matrix.AddressOf(kAlongK, 9, 8), 4096u + 256 + 16 + 128);
  EXPECT_EQ(matrix.AddressOf(kAlongMn, 3, 2), 4096u + 32 + 6);
  EXPECT_EQ(matrix.AddressOf(kAlongMn, 8, 9), 4096u + 256 + 16 + 128);
}

TEST(MatrixDescriptorTest, PatternsMayBeginElsewhere) {
  // At row 2 of what would begin at a multiple of 1,024 bytes.
  const MatrixDescriptor matrix = Describe(2048 + 256, 0, 1024, 1, /*base=*/2);
  EXPECT_EQ(matrix.AddressOf(kAlongK, 0, 0), 2048u + 256);
  EXPECT_EQ(matrix.AddressOf(kAlongK, 1, 0), 2048u + 384 + 16);
}

class ProductTest : public ::testing::TestWithParam<Options> {
 protected:
  // out[64][64], row after row, of the kernel with this bug.
  std::vector<float> Run(ProductBug bug) {
    Reset(GetParam());
    cudaStream_t stream = nullptr;
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    std::vector<__nv_bfloat16> b;
    for (int i = 0; i < 16 * kProductCols; ++i) b.push_back(static_cast<float>(BOf(i)));
    std::vector<float> out(static_cast<size_t>(kProductRows * kProductCols));
    const size_t b_bytes = b.size() * sizeof(b[0]);
    const size_t out_bytes = out.size() * sizeof(float);
    __nv_bfloat16* device_b = nullptr;
    float* device_out = nullptr;
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&device_b), b_bytes), cudaSuccess);
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&device_out), out_bytes), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(device_b, b.data(), b_bytes, cudaMemcpyHostToDevice, stream),
              cudaSuccess);
    EXPECT_EQ(RunProduct(stream, bug, device_b, device_out), cudaSuccess);
    // After a fault it says so: FaultMessage().
    (void)cudaMemcpyAsync(out.data(), device_out, out_bytes, cudaMemcpyDeviceToHost, stream);
    return out;
  }

  std::string FaultOf(ProductBug bug) {
    Run(bug);
    return FaultMessage();
  }

  static int BOf(int index) { return index * index % 11 - 5; }

  static std::vector<float> Expected() {
    std::vector<float> out;
    for (int row = 0; row < kProductRows; ++row) {
      for (int col = 0; col < kProductCols; ++col) {
        int sum = 0;
        for (int k = 0; k < 16; ++k) sum += AOf(row, k) * BOf(k * kProductCols + col);
        out.push_back(static_cast<float>(sum));
      }
    }
    return out;
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, ProductTest,
                         ::testing::Values(Options{.order = Order::kForward},
                                           Options{.order = Order::kReverse},
                                           Options{.order = Order::kRandom}));

TEST_P(ProductTest, IsRight) {
  EXPECT_EQ(Run(ProductBug::kNone), Expected());
  EXPECT_EQ(FaultMessage(), "");
}

TEST_P(ProductTest, IsNotThereBeforeSomebodyHasWaited) {
  for (const ProductBug bug : {ProductBug::kReadsBeforeWaiting, ProductBug::kWaitsWithoutCommit}) {
    for (const float number : Run(bug)) EXPECT_TRUE(std::isnan(number));
  }
}

#ifndef KVEC_CUSIM_SANITIZED  // a sanitizer does not bear kernels that are left for good

TEST_P(ProductTest, NamesMemoryThatIsWrittenMeanwhile) {
  EXPECT_THAT(FaultOf(ProductBug::kOverwritesTile), HasSubstr("shared memory was written"));
  EXPECT_THAT(FaultOf(ProductBug::kBeginsBeforeTile), HasSubstr("shared memory was written"));
}

TEST_P(ProductTest, NamesRegistersThatAreTouchedMeanwhile) {
  EXPECT_THAT(FaultOf(ProductBug::kSumsWrittenMeanwhile), HasSubstr("registers of D"));
  EXPECT_THAT(FaultOf(ProductBug::kFactorsWrittenMeanwhile), HasSubstr("registers of A"));
}

TEST_P(ProductTest, NamesMissingFences) {
  EXPECT_THAT(FaultOf(ProductBug::kNoFence), HasSubstr("without wgmma.fence"));
  EXPECT_THAT(FaultOf(ProductBug::kNoProxyFence), HasSubstr("lacks fence.proxy.async"));
}

TEST_P(ProductTest, NamesWarpsThatDiffer) {
  EXPECT_THAT(FaultOf(ProductBug::kDiverges), HasSubstr("different products"));
}

TEST_P(ProductTest, NamesReadsOutsideOfArrays) {
  EXPECT_THAT(FaultOf(ProductBug::kReadsBeyondArray), HasSubstr("outside of an array"));
}

TEST_P(ProductTest, NamesMisusedBarriers) {
  EXPECT_THAT(FaultOf(ProductBug::kBarrierWithoutInit), HasSubstr("mbarrier that was not init"));
  EXPECT_THAT(FaultOf(ProductBug::kBarrierNobodyOpens),
              HasSubstr("deadlock: 128 at an mbarrier in warpgroup.h:"));
}

#endif

}  // namespace
}  // namespace kvec::cusim
