package fotilla.interop;

import java.util.ArrayList;
import java.util.List;

import org.eclipse.leshan.core.model.ObjectLoader;
import org.eclipse.leshan.core.model.ObjectModel;
import org.eclipse.leshan.core.model.ResourceModel;
import org.eclipse.leshan.core.model.ResourceModel.Operations;
import org.eclipse.leshan.core.model.ResourceModel.Type;

/** Object definitions known to both mains: Leshan's own, and a small object with one resource per data type. */
final class Models {
    /** Number and resource ids of OMA's test object, cut down to its single-instance resources. */
    static final int TEST_OBJECT = 3442;
    static final int TEST_STRING = 110;
    static final int TEST_INTEGER = 120;
    static final int TEST_FLOAT = 130;
    static final int TEST_BOOLEAN = 140;
    static final int TEST_OPAQUE = 150;
    static final int TEST_TIME = 160;
    static final int TEST_OBJLNK = 170;

    private Models() {
    }

    /** Every version of the core objects; a registration's {@code ver} picks the one to use. */
    static List<ObjectModel> server() {
        List<ObjectModel> models = new ArrayList<>(ObjectLoader.loadAllDefault());
        models.add(testObject());
        return models;
    }

    /** One version of each object. */
    static List<ObjectModel> client() {
        List<ObjectModel> models = new ArrayList<>(ObjectLoader.loadDefault());
        models.add(testObject());
        return models;
    }

    private static ObjectModel testObject() {
        return new ObjectModel(TEST_OBJECT, "Test", "One resource per data type", "1.0", true, false,
                resource(TEST_STRING, "String", Type.STRING), resource(TEST_INTEGER, "Integer", Type.INTEGER),
                resource(TEST_FLOAT, "Float", Type.FLOAT), resource(TEST_BOOLEAN, "Boolean", Type.BOOLEAN),
                resource(TEST_OPAQUE, "Opaque", Type.OPAQUE), resource(TEST_TIME, "Time", Type.TIME),
                resource(TEST_OBJLNK, "ObjLnk", Type.OBJLNK));
    }

    private static ResourceModel resource(int id, String name, Type type) {
        return new ResourceModel(id, name, Operations.RW, false, false, type, null, null, null);
    }
}
