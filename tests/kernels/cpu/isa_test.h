#ifndef KVEC_TESTS_KERNELS_CPU_ISA_TEST_H_
#define KVEC_TESTS_KERNELS_CPU_ISA_TEST_H_

#include <string>

#include "gtest/gtest.h"
#include "kernels/cpu/isa.h"

namespace kvec::kernels::cpu {

// A test that runs once per instruction set, where the processor has it. For use with
// INSTANTIATE_TEST_SUITE_P(Isas, …Test, kAllIsas, IsaTestName).
class IsaTest : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > DetectIsa()) GTEST_SKIP() << "this processor has no " << IsaName(GetParam());
    RestrictHighwayTo(GetParam());
  }
  void TearDown() override { RestrictHighwayTo(DetectIsa()); }
};

inline const auto kAllIsas = ::testing::Values(Isa::kScalar, Isa::kAvx2, Isa::kAvx512);

inline std::string IsaTestName(const ::testing::TestParamInfo<Isa>& info) {
  return std::string(IsaName(info.param));
}

}  // namespace kvec::kernels::cpu

#endif  // KVEC_TESTS_KERNELS_CPU_ISA_TEST_H_
