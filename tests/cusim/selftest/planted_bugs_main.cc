// planted_bugs NAME: runs one program of planted_bugs.h, for what a sanitizer says about it. Exits
// with 0 when it ran to its end, whatever it wrote.

#include <iostream>
#include <string_view>

#include "tests/cusim/selftest/run_program.h"

int main(int argc, char** argv) {
  using namespace kvec::cusim;
  for (const auto* programs : {&CorrectPrograms(), &PlantedBugs()}) {
    for (const NamedProgram& program : *programs) {
      if (argc != 2 || program.name != argv[1]) continue;
      const ProgramResult result = RunProgram(program.run, {});
      std::cout << program.name << ": error " << result.error << " " << FaultMessage() << "\n";
      return 0;
    }
  }
  std::cerr << "usage: planted_bugs NAME\n";
  return 2;
}
